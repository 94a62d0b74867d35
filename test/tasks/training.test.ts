import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import {
  attach,
  calibrationBatches,
  type EncoderTask,
  evaluate,
  loadModel,
  scope,
  type TrainingOptions,
  type TunedEncoder,
  train,
} from 'lorikeet';
import { type DataSources, StepLoader } from 'lorikeet/data';
import { encodeInput } from '#dist/data/encoder-input.js';
import { taskOf } from '#dist/tasks/registry.js';
import { stepGradients } from '#dist/train/step.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { opinions, tinyEncoder } from '../helpers/tiny-encoder.js';

const folder = tinyEncoder();
const out = temporaryFolder();

async function withTask<T extends EncoderTask, R>(
  task: T,
  labels: readonly string[] | number | undefined,
  use: (tuned: TunedEncoder<T>) => Promise<R>,
  dropout = 0,
): Promise<R> {
  const model = await loadModel(folder, { task, dtype: 'f32', ...(labels === undefined ? {} : { labels }) });
  const tuned = await attach(model, { type: 'lora', rank: 4, alpha: 16, dropout, targets: 'all-linear' }, { seed: 1 });
  try {
    return await use(tuned);
  } finally {
    model.dispose();
  }
}

const quick: TrainingOptions = {
  steps: 60,
  batch: 8,
  sequence: 24,
  learningRate: 5e-3,
  schedule: 'constant',
  evalEvery: 20,
  saveEvery: 20,
};

/** Words of the rows with a tag each. */
const tagged = opinions.map(({ text }) => ({
  tokens: text.trim().split(' '),
  tags: text
    .trim()
    .split(' ')
    .map((word) => (word === 'film' || word === 'play' ? 'B-WORK' : 'O')),
}));

const cases = {
  classification: { labels: ['contra', 'pro'], rows: opinions },
  regression: { labels: undefined, rows: opinions.map(({ text, label }) => ({ text, label: label === 'pro' ? 1 : '-1' })) },
  'token-classification': { labels: ['O', 'B-WORK', 'I-WORK'], rows: tagged },
  'masked-lm': { labels: undefined, rows: opinions.map(({ text }) => ({ text })) },
} as const satisfies { [T in EncoderTask]?: { labels: readonly string[] | undefined; rows: readonly object[] } };

for (const [task, { labels, rows }] of Object.entries(cases)) {
  test.serial(`${task}: training lowers the loss, and metrics follow`, async (t) => {
    await withTask(task as keyof typeof cases, labels, async (tuned) => {
      const data = { rows } as DataSources;
      const before = await evaluate(tuned, data);
      const result = await train(tuned, { data: { train: data, eval: data }, training: quick });
      const after = await evaluate(tuned, data);
      t.true(after.loss < 0.8 * before.loss, `${before.loss} ${after.loss}`);
      t.true(Math.abs(after.loss - (result.evalLoss ?? 0)) < 1e-9);
      t.deepEqual(result.evalMetrics, after.metrics);
      const names = {
        classification: 'accuracy f1 mcc',
        regression: 'mse pearson spearman',
        'token-classification': 'accuracy precision recall f1',
        'masked-lm': 'perplexity',
      };
      t.is(Object.keys(after.metrics).join(' '), names[task as keyof typeof names]);
      if (task !== 'masked-lm') {
        const deciding = { classification: 'accuracy', regression: 'pearson', 'token-classification': 'f1' }[task as 'regression'];
        t.true((after.metrics[deciding as string] ?? 0) > 0.9, JSON.stringify(after.metrics));
      }
    });
  });

  test.serial(
    `${task}: a step has one gradient however its rows are cut, and the loss of an evaluation does not depend on the batch`,
    async (t) => {
      await withTask(task as keyof typeof cases, labels, async (tuned) => {
        const learnt = taskOf(tuned);
        const set = await learnt.open({ rows } as DataSources, { sequence: 24 });
        const loader = await StepLoader.open(set, {
          batch: 8,
          accumulate: 1,
          sequence: 24,
          shuffle: true,
          seed: 1,
          packing: false,
          lengthGrouped: false,
        });
        const own = await loader.take(1, 1);
        const parameters = tuned.parameters();
        const gradients = async (batch: number) => {
          tuned.network.eval();
          const { loss, tokens } = await stepGradients(
            {
              batch: (part, place) => ({
                ...learnt.batch(part, place),
                loss: (pass) => learnt.batch(part, place).loss({ ...pass, training: false }),
              }),
            },
            parameters,
            { rows: own, batch, checkpointing: false },
          );
          const values = await Promise.all(
            parameters.map((parameter) => scope(async () => (await parameter.grad?.data()) as Float32Array)),
          );
          for (const parameter of parameters) parameter.clearGrad();
          return { loss, tokens, values };
        };
        const [whole, cut] = [await gradients(8), await gradients(3)];
        t.is(whole.tokens, cut.tokens);
        t.true(Math.abs(whole.loss - cut.loss) < 1e-5);
        for (const [index, values] of whole.values.entries())
          t.true(values.every((value, i) => Math.abs(value - (cut.values[index]?.[i] ?? Number.NaN)) < 2e-5));
        t.deepEqual((await learnt.measure(set, { batch: 1 })).metrics, (await learnt.measure(set, { batch: 8 })).metrics);
        await loader.close();
      });
    },
  );
}

test.serial('a run of a task that was cut goes on with the same bits, and its rows of metrics say what was found', async (t) => {
  const data = { train: { rows: opinions }, eval: { rows: opinions.slice(0, 9) } };
  const weights = (run: string): Buffer => readFileSync(join(run, 'adapter', 'adapter_model.safetensors'));
  const [straight, stopped] = [join(out, 'straight'), join(out, 'cut')];
  const run = (path: string, resume = false) =>
    withTask('classification', ['contra', 'pro'], (tuned) => train(tuned, { data, training: quick, out: path, resume }).then(), 0.1);
  const result = await run(straight);
  await withTask(
    'classification',
    ['contra', 'pro'],
    async (tuned) => {
      for await (const { step } of train(tuned, { data, training: quick, out: stopped })) if (step === 24) break;
    },
    0.1,
  );
  const resumed = await run(stopped, true);
  t.deepEqual(weights(stopped), weights(straight));
  t.deepEqual([resumed.best, resumed.evalMetrics], [result.best, result.evalMetrics]);
  const rows = readFileSync(join(straight, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const evaluations = rows.filter((row) => 'evalLoss' in row);
  t.deepEqual(
    evaluations.map(({ step }) => step),
    [20, 40, 60],
  );
  t.deepEqual(Object.keys(evaluations[0]), ['step', 'evalLoss', 'evalMetrics', 'isBest']);
  t.is(evaluations.findLast(({ isBest }) => isBest).step, result.best?.step);
  t.is(result.best?.evalMetrics?.accuracy, Math.max(...evaluations.map(({ evalMetrics }) => evalMetrics.accuracy)));
  t.regex(readFileSync(join(straight, 'recipe.yaml'), 'utf8'), /task:\n {2}type: classification\n {2}labels:\n {4}- contra\n {4}- pro\n/);
  t.regex(readFileSync(join(straight, 'report.html'), 'utf8'), /Metrics/);
});

test.serial('early stopping waits for the metric that decides', async (t) => {
  await withTask('classification', ['contra', 'pro'], async (tuned) => {
    const data = { train: { rows: opinions }, eval: { rows: opinions.slice(0, 8) } };
    const result = await train(tuned, { data, training: { ...quick, steps: 90, evalEvery: 4, earlyStopping: { patience: 4 } } });
    t.true(result.steps < 90);
    t.regex(result.stoppedEarly ?? '', /^held-out accuracy not above 1\.0000 in 4 evaluations$/);
  });
});

test.serial('masks are a function of seed, step and place: 15 % of the tokens of words, of which 80 % are hidden', async (t) => {
  await withTask('masked-lm', undefined, async (tuned) => {
    const task = taskOf(tuned);
    const seen: { ids: readonly (readonly number[])[]; targets: readonly (readonly number[])[] }[] = [];
    const watched = taskOf(
      new Proxy(tuned, {
        get(target, key) {
          if (key === 'loss') return (input: (typeof seen)[number]) => seen.push(input);
          const value = Reflect.get(target, key, target) as unknown;
          return typeof value === 'function' ? value.bind(target) : value;
        },
      }),
    );
    const input = await encodeInput(tuned.tokenizer, 'good film bad play a b c d e f g h i j k l m n o p', 22);
    const rows = Array.from({ length: 64 }, (_, index) => ({ where: `row ${index}`, input, target: undefined }));
    const hide = (place: { seed: number; step: number; first: number }, part = rows) => {
      watched.batch(part, place).loss({ training: false });
      return seen.at(-1) as (typeof seen)[number];
    };
    const first = hide({ seed: 1, step: 1, first: 0 });
    t.deepEqual(hide({ seed: 1, step: 1, first: 0 }), first);
    t.deepEqual(hide({ seed: 1, step: 1, first: 8 }, rows.slice(8, 16)).ids, first.ids.slice(8, 16));
    t.notDeepEqual(hide({ seed: 1, step: 2, first: 0 }).ids, first.ids);
    t.notDeepEqual(hide({ seed: 2, step: 1, first: 0 }).ids, first.ids);

    let [chosen, hidden, kept, all] = [0, 0, 0, 0];
    for (let step = 1; step <= 20; step++) {
      const { ids, targets } = hide({ seed: 5, step, first: 0 });
      for (const [b, row] of targets.entries()) {
        t.true(row.some((target) => target !== -100));
        t.is(row[0], -100);
        for (const [at, target] of row.entries()) {
          if ((input.words[at] ?? -1) < 0) continue;
          all++;
          if (target === -100) {
            t.is(ids[b]?.[at], input.ids[at]);
            continue;
          }
          t.is(target, input.ids[at] as number);
          chosen++;
          if (ids[b]?.[at] === tuned.tokenizer.maskId) hidden++;
          else if (ids[b]?.[at] === target) kept++;
        }
      }
    }
    t.true(Math.abs(chosen / all - 0.15) < 0.01, `${chosen / all}`);
    t.true(Math.abs(hidden / chosen - 0.8) < 0.03, `${hidden / chosen}`);
    t.true(Math.abs(kept / chosen - 0.1) < 0.03, `${kept / chosen}`);
    t.is((await task.measure(await task.open({ rows: cases['masked-lm'].rows } as DataSources, { sequence: 24 }))).targets > 0, true);
  });
});

test.serial('initialisations look at rows of the task', async (t) => {
  const model = await loadModel(folder, { task: 'classification', labels: ['contra', 'pro'], dtype: 'f32' });
  const data = await calibrationBatches(model, { rows: opinions }, { batchSize: 4, batches: 3 });
  for (const init of ['eva', 'lora-ga'] as const) {
    const tuned = await attach(model, { type: 'lora', rank: 2, init }, { data, name: init });
    t.true(tuned.table([init]).length > 2);
    tuned.remove(init);
  }
  model.dispose();
});
