import test from 'ava';
import { attach, type CalibrationBatch, calibrationBatches, loadModel, type TrainingOptions, train } from 'lorikeet';
import { shippedModel, shippedRows } from '../helpers/shipped.js';

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
