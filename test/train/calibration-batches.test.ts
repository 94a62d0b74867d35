import test from 'ava';
import { attach, type CalibrationBatch, calibrationBatches, loadModel, type TrainingOptions, train } from 'lorikeet';
import { shippedModel, shippedRows } from '../helpers/shipped.js';
import { opinions, tinyEncoder } from '../helpers/tiny-encoder.js';

const rows = shippedRows(12);

/** The batches that a training's first step is made of. */
async function trainedOn(training: TrainingOptions): Promise<CalibrationBatch[]> {
  const model = await loadModel(shippedModel);
  const seen: CalibrationBatch[] = [];
  try {
    const tuned = await attach(model, { type: 'lora', rank: 2 });
    const spied = new Proxy(tuned, {
      get(target, key) {
        if (key === 'loss')
          return (input: Parameters<typeof target.loss>[0]) => {
            const { ids, targets, documents } = input;
            seen.push({ ids, ...(targets && { targets }), ...(documents && { documents }) });
            return target.loss(input);
          };
        const value = Reflect.get(target, key, target) as unknown;
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    await train(spied, { data: { train: { rows } }, training: { ...training, steps: 3, memory: 'ignore' } });
    return seen;
  } finally {
    model.dispose();
  }
}

for (const training of [
  { batch: 2, sequence: 32, seed: 4 },
  { batch: 2, sequence: 64, packing: true },
  { batch: 2, sequence: 32, shuffle: false },
] as const satisfies TrainingOptions[]) {
  test.serial(`the batches are the first of the training: ${JSON.stringify(training)}`, async (t) => {
    const model = await loadModel(shippedModel);
    const found = await calibrationBatches(model, { rows }, { batchSize: 2, batches: 3, training });
    t.deepEqual(found, await trainedOn(training));
    model.dispose();
  });
}

test.serial('rows are gone through once at most; wrong sizes are refused', async (t) => {
  const model = await loadModel(shippedModel);
  t.is((await calibrationBatches(model, { rows }, { batchSize: 5, batches: 99, training: { sequence: 32 } })).length, 3);
  t.is((await calibrationBatches(model, { rows }, { training: { sequence: 32 } })).length, 3);
  const wrong = [{ batchSize: 0 }, { batches: 1.5 }, { batches: Number.NaN }];
  for (const options of wrong)
    await t.throwsAsync(calibrationBatches(model, { rows }, options), { code: 'config', message: /calibration: batch/ });
  const controller = new AbortController();
  controller.abort();
  await t.throwsAsync(calibrationBatches(model, { rows }, { signal: controller.signal }), { code: 'cancelled' });
  model.dispose();
});

const encoder = tinyEncoder();

for (const init of ['eva', 'corda'] as const)
  test.serial(`${init} starts every layer of an encoder that its task runs`, async (t) => {
    const start = async (task: 'classification' | 'embedding', rows: readonly Readonly<Record<string, unknown>>[], batchSize: number) => {
      const model = await loadModel(encoder, { task, dtype: 'f32', ...(task === 'embedding' ? {} : { labels: ['contra', 'pro'] }) });
      const data = await calibrationBatches(model, { rows }, { batchSize, batches: 6, training: { shuffle: false } });
      const tuned = await attach(model, { type: 'lora', rank: 4, alpha: 4, targets: 'all-linear', init }, { data });
      const paths = tuned.table().map(({ path }) => path);
      const pooler = [...tuned.namedParameters()].find(([name]) => name.includes('pooler') && name.includes('lora_A'))?.[1];
      const values = pooler && Float32Array.from((await pooler.data()) as Float32Array);
      model.dispose();
      return { paths, values };
    };
    const classes = await start('classification', opinions, 4);
    t.is(classes.paths.filter((path) => path.includes('pooler')).length, 1);
    t.true(classes.values?.some((value) => value !== 0));
    const whole = await start('classification', opinions, 8);
    if (init === 'corda') {
      const difference = whole.values?.map((value, i) => Math.abs(Math.abs(value) - Math.abs(classes.values?.[i] ?? 0))) ?? [];
      t.true(Math.max(...difference) < 1e-3, 'samples do not depend on how they are put into batches');
    }
    const embeddings = await start(
      'embedding',
      opinions.map(({ text }) => ({ anchor: text, positive: text })),
      4,
    );
    t.is(embeddings.paths.filter((path) => path.includes('pooler')).length, 0);
    t.true(embeddings.paths.length > 10);
  });

test.serial('of tags only the tokens that have one count where what is learnt does', async (t) => {
  const model = await loadModel(encoder, { task: 'token-classification', labels: ['O', 'X'] });
  const { batches, counts } = await calibrationBatches(model, { rows: [{ tokens: ['good', 'abc'], tags: ['O', 'X'] }] }, { batchSize: 1 });
  const [batch] = batches as readonly unknown[];
  t.deepEqual(counts?.(batch, true), [false, true, true, false, false, false]);
  t.deepEqual(counts?.(batch, false), new Array(6).fill(true));
  model.dispose();
});
