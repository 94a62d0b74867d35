import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { loadAdapter, loraPlusGroups, type TunedModel } from '#dist/adapters/index.js';
import { loadSafetensors } from '#dist/io/safetensors.js';
import { loadModel } from '#dist/load-model.js';
import { AdamW, clipGradNorm } from '#dist/optim/index.js';
import { memory, scope } from '#dist/scope.js';
import { golden, relativeError } from '../helpers/adapters.js';
import { dataFolder } from '../helpers/folders.js';

/** PEFT's own float32 run differs from its float64 run by 3e-7. */
const kTolerance = 1e-3;

interface Curve {
  readonly init: string;
  readonly steps: number;
  readonly loss: number[];
  readonly gradNorm: number[];
  readonly optimizer: {
    readonly clip: number;
    readonly loraPlusRatio: number | null;
    readonly groups: { learningRate: number; weightDecay: number }[];
  };
}

const curves = join(golden, 'curves');
const batches = JSON.parse(readFileSync(join(curves, 'batches.json'), 'utf8')) as { ids: number[][][] };

function optimizerOf(tuned: TunedModel, { optimizer }: Curve): AdamW {
  const { learningRate = 0, weightDecay = 0 } = optimizer.groups[0] ?? {};
  if (optimizer.loraPlusRatio === null) return new AdamW(tuned.parameters(), { learningRate, weightDecay });
  return new AdamW(loraPlusGroups(tuned, { learningRate, ratio: optimizer.loraPlusRatio, weightDecay }));
}

for (const name of ['lora', 'dora', 'lora-plus']) {
  test.serial(`training follows PEFT step by step: ${name}`, async (t) => {
    const folder = dataFolder(t, 'llama-stories260k');
    if (folder === undefined) return;
    const curve = JSON.parse(readFileSync(join(curves, name, 'curve.json'), 'utf8')) as Curve;
    const model = await loadModel(folder, { dtype: 'f32' });
    const tuned = await loadAdapter(model, join(curves, curve.init));
    const optimizer = optimizerOf(tuned, curve);
    const parameters = tuned.parameters();
    let steady = 0;
    for (const [step, ids] of batches.ids.slice(0, curve.steps).entries()) {
      const [loss, norm] = await scope(async () => {
        const value = tuned.loss({ ids, training: true });
        value.backward();
        const clipped = clipGradNorm(parameters, curve.optimizer.clip);
        optimizer.step();
        optimizer.zeroGrad();
        return Promise.all([value.item(), clipped.item()]);
      });
      const relative = (got: number, expected: number): number => Math.abs(got - expected) / expected;
      t.true(relative(loss, curve.loss[step] ?? 0) < kTolerance, `loss of step ${step}: ${loss} beside ${curve.loss[step]}`);
      t.true(relative(norm, curve.gradNorm[step] ?? 0) < kTolerance, `norm of step ${step}: ${norm} beside ${curve.gradNorm[step]}`);
      if (step === 1) steady = memory().tensors;
    }
    t.is(memory().tensors, steady);
    const expected = await loadSafetensors(join(curves, name, 'adapter_model.safetensors'));
    for (const [key, value] of tuned.namedParameters()) {
      const other = expected.get(`base_model.model.${key}`);
      t.true(relativeError((await value.data()) as Float32Array, (await other?.data()) as Float32Array) < kTolerance, key);
      other?.dispose();
    }
    optimizer.dispose();
    tuned.dispose();
    model.dispose();
  });
}
