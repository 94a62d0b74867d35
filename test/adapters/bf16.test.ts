// Adapters keep f32 values on a bf16 base; the same adapter on the same weights in f32 is the reference.
import test from 'ava';
import { type AdapterConfig, attach } from '#dist/adapters/index.js';
import { loadModel } from '#dist/load-model.js';
import { square } from '#dist/ops/elementwise.js';
import { sum } from '#dist/ops/reduce.js';
import { scope } from '#dist/scope.js';
import { golden, logitsOf, relativeError } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';

/** bf16 keeps 8 bits; two layers of rounding on the way. */
const kTolerance = 0.02;
const ids = [3, 17, 42, 5, 8, 80];

const configs: Record<string, AdapterConfig> = {
  plain: { type: 'lora', targets: 'all-linear', rank: 4 },
  dora: { type: 'lora', targets: 'all-linear', rank: 4, dora: true },
  'dora with dropout': { type: 'lora', targets: ['q_proj'], dora: true, dropout: 0.1 },
  embedding: { type: 'lora', targets: ['embed_tokens', 'lm_head'], rank: 4 },
  'embedding dora': { type: 'lora', targets: ['embed_tokens'], rank: 4, dora: true },
  'whole modules': { type: 'lora', targets: ['q_proj'], modulesToSave: ['lm_head', 'norm', 'embed_tokens'] },
  tokens: { type: 'lora', targets: ['q_proj'], trainableTokenIndices: [3, 42] },
};

for (const [name, config] of Object.entries(configs)) {
  test.serial(`a bf16 base computes and trains: ${name}`, async (t) => {
    const folder = `${golden}/models/llama-bf16`;
    const logits: Float32Array[] = [];
    for (const dtype of ['bf16', 'f32'] as const) {
      const model = await loadModel(folder, { dtype });
      const base = await logitsOf(model, ids);
      const tuned = await attach(model, config, { seed: 4 });
      perturb(tuned, 0.1);
      logits.push(await logitsOf(tuned, ids));
      t.true(relativeError(logits.at(-1) as Float32Array, base) > kTolerance, 'the adapter shows');
      scope(() => sum(square(tuned.head(tuned.forward([ids], { training: true })))).backward());
      for (const [path, value] of tuned.namedParameters()) {
        t.is(value.dtype, 'f32', path);
        t.is(value.grad?.dtype, 'f32', path);
      }
      if (dtype === 'bf16') t.true((await tuned.merge()).maxError < kTolerance);
      tuned.dispose();
      model.dispose();
    }
    t.true(relativeError(logits[0] as Float32Array, logits[1] as Float32Array) < kTolerance);
  });
}
