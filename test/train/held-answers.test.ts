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

test.serial('what cannot be asked ends a run before its first step, and an evaluation before its first row', (t) =>
  withTuned(async (tuned) => {
    const long = [...questions, { q: 'word '.repeat(600), a: 'true' }];
    const wrong: readonly [rows: readonly object[], settings: object, message: RegExp][] = [
      [long, {}, /row 6 cannot be asked; generate: the prompt leaves no room in the context; got \d+ tokens/],
      [questions.map(({ q }) => ({ q, a: '' })), {}, /there are no rows to answer/],
      [questions, { beams: 513 }, /beams is out of range; got 513, expected an integer from 1 to the 512 tokens of the model/],
    ];
    for (const [rows, settings, message] of wrong) {
      const held = { rows: rows as readonly Record<string, unknown>[], prompt: 'q', completion: 'q' };
      const asked = { ...answers, ...settings };
      let steps = 0;
      const run = train(tuned, {
        data: { train: { rows: questions, ...source }, eval: held, badRows: 'skip' },
        training: { steps: 2, batch: 2, sequence: 16 },
        evaluation: { answers: asked },
        callbacks: { onStep: () => steps++ },
      });
      await t.throwsAsync(async () => await run, { code: 'invalid-argument', message });
      t.is(steps, 0);
      const onProgress = () => t.fail();
      await t.throwsAsync(evaluate(tuned, held, { answers: asked, badRows: 'skip', onProgress }), { code: 'invalid-argument', message });
    }
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
