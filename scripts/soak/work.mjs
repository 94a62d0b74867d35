// The work of a soak cycle that main thread and worker threads share: a small model, an adapter, a short run.
import { createHash } from 'node:crypto';
import { attach, loadModel } from '../../dist/index.js';

const model = 'examples/stories260k';
const train = { path: 'examples/shakespeare/train.jsonl' };
export const held = { path: 'examples/shakespeare/dev.jsonl' };

/** What is trained: dtypes and options of the adapter. */
export const variants = [
  { dtype: 'f32', adapter: { type: 'lora', rank: 4, targets: 'all-linear', dropout: 0.1 } },
  { dtype: 'f32', adapter: { type: 'lora', rank: 4, targets: 'all-linear', dora: true } },
  { dtype: 'bf16', adapter: { type: 'lora', rank: 8, targets: ['q_proj', 'v_proj'], rsLora: true } },
  { dtype: 'bf16', adapter: { type: 'lora', rank: 4, targets: 'all-linear', dora: true, dropout: 0.1 } },
];

/** Options of `train()` for a run of six steps that evaluates and saves on the way. */
export const runOptions = (out) => ({
  data: { train, eval: held },
  training: { steps: 6, batch: 2, sequence: 48, learningRate: 2e-3, evalEvery: 3, saveEvery: 2 },
  ...(out && { out }),
});

/** Loads the model and attaches a fresh adapter, with the same starting values every time. */
export async function openVariant({ dtype, adapter }) {
  const base = await loadModel(model, { dtype });
  return attach(base, adapter, { seed: 1 });
}

/** The bits of all trained parameters in short. */
export async function digest(tuned) {
  const hash = createHash('sha256');
  for (const [name, value] of tuned.namedParameters()) {
    const { buffer, byteOffset, byteLength } = await value.data();
    hash.update(name).update(Buffer.from(buffer, byteOffset, byteLength));
  }
  return hash.digest('hex').slice(0, 16);
}
