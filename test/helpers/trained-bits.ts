import { createHash } from 'node:crypto';
import { attach, loadModel, type TrainingOptions, type TunedModel, train } from 'lorikeet';
import { dropout, mul, ones, sum } from 'lorikeet/ops';
import { shippedModel, shippedRows } from './shipped.js';

/** The model with a loss that also draws random numbers without a seed of its own: those of the run, or of whoever is in between. */
function drawing(tuned: TunedModel): TunedModel {
  return new Proxy(tuned, {
    get(target, key) {
      if (key === 'loss') return (input: Parameters<TunedModel['loss']>[0]) => mul(target.loss(input), sum(dropout(ones([8]), 0.5)));
      const value = Reflect.get(target, key, target) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** A digest of all weights and losses of a short training with everything that draws. */
export async function trainedBits(seed: number, training: TrainingOptions = {}): Promise<string> {
  const model = await loadModel(shippedModel);
  const tuned = await attach(model, { type: 'lora', rank: 64, targets: 'all-linear', dropout: 0.2 }, { seed });
  const hash = createHash('sha256');
  try {
    const settings: TrainingOptions = { batch: 2, sequence: 48, steps: 5, learningRate: 5e-3, optimizer: 'adamw-8bit', seed, ...training };
    for await (const { loss } of train(drawing(tuned), { data: { train: { rows: shippedRows(12) } }, training: settings }))
      hash.update(String(loss));
    for (const value of tuned.parameters()) hash.update((await value.data()) as Float32Array);
    return hash.digest('hex');
  } finally {
    tuned.dispose();
    model.dispose();
  }
}
