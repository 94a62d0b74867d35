import test from 'ava';
import { attach, CancelledError, evaluate, generate, loadModel, train } from 'lorikeet';
import { scoreResponses } from '#dist/generate/answer-accuracy.js';
import { perturb } from '../helpers/perturb.js';
import { shippedModel, withTuned } from '../helpers/shipped.js';

const source = { prompt: 'q', completion: 'a' };
const questions = ['Lily said', 'Tom said', 'The cat said', 'Once', 'Then'].map((q) => ({ q, a: 'true' }));
const answers = { kind: 'truth', field: 'a', maxNewTokens: 4, batch: 2 } as const;

test.serial('answers are counted as they come, also of rows that can be read once', (t) =>
  withTuned(async (tuned) => {
    const counts: number[] = [];
    const rows = (function* () {
      yield* questions;
    })();
    const result = await evaluate(tuned, { rows, ...source }, { answers, onAnswers: ({ rows: done }) => counts.push(done) });
    t.deepEqual(counts, [2, 4, 5]);
    t.is(result.sequences, 5);
    t.is(result.answerAccuracy, 0);
  }),
);

test.serial('a signal ends an evaluation among its answers, and questions need held-out rows', (t) =>
  withTuned(async (tuned) => {
    const controller = new AbortController();
    const data = { train: { rows: questions, ...source }, eval: { rows: questions, ...source } };
    const training = { steps: 2, batch: 2, sequence: 16 };
    const seen: number[] = [];
    const run = train(tuned, {
      data,
      training,
      evaluation: { answers },
      signal: controller.signal,
      callbacks: {
        onAnswers: ({ step, rows }) => {
          seen.push(step, rows);
          controller.abort();
        },
      },
    });
    const error = await t.throwsAsync(async () => await run, { instanceOf: CancelledError });
    t.regex(error.message, /cancelled after step 2 of 2/);
    t.deepEqual(seen, [2, 2]);
    t.throws(() => train(tuned, { data: { train: data.train }, evaluation: { answers } }), {
      code: 'config',
      message: /needs held-out rows/,
    });
  }),
);

test.serial('questions of several tasks are each answered by their own', async (t) => {
  const model = await loadModel(shippedModel);
  const tuned = await attach(model, { type: 'poly', tasks: 2, rank: 4, alpha: 8 }, { seed: 1 });
  perturb(tuned, 0.5);
  const asked = questions.map(({ q }, index) => ({ prompt: q, answer: 'true', where: `row ${index}`, task: index % 2 }));
  const { rows } = await scoreResponses(tuned, asked, { kind: 'truth', maxNewTokens: 6, batch: 3 });
  for (const [index, { prompt, task }] of asked.entries())
    t.is(rows[index]?.response, await generate(tuned, prompt, { maxNewTokens: 6, task }).text(), prompt);
  tuned.dispose();
  model.dispose();
});
