import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { loadAdapter, type TunedModel } from '#dist/adapters/index.js';
import { loadSafetensors } from '#dist/io/safetensors.js';
import { PackedWeight } from '#dist/ops/linalg.js';
import { golden, loadTiny, logitsOf, readReference, referenceError, relativeError, sameBits } from '../helpers/adapters.js';

/** Merging rounds every weight once more, in f32. */
const kWeightTolerance = 1e-6;
const kLogitTolerance = 1e-5;

const merged = join(golden, 'merged');
const names = readdirSync(merged)
  .filter((file) => file.endsWith('.safetensors'))
  .map((file) => file.replace('.safetensors', ''));

async function load(name: string): Promise<{ tuned: TunedModel; reference: string; dispose: () => void }> {
  const folder = join(golden, 'adapters', name);
  const pair = existsSync(join(folder, 'first'));
  const reference = join(folder, pair ? 'reference-first-second.json' : 'reference.json');
  const model = await loadTiny(readReference(reference).base);
  const tuned = await loadAdapter(model, pair ? join(folder, 'first') : folder, { name: 'first' });
  if (pair) {
    await loadAdapter(model, join(folder, 'second'), { name: 'second' });
    tuned.activate(['first', 'second']);
  }
  return {
    tuned,
    reference,
    dispose: () => {
      tuned.dispose();
      model.dispose();
    },
  };
}

for (const name of names) {
  test.serial(`merged weights are PEFT's, and unmerging gives the base bits back: ${name}`, async (t) => {
    const { tuned, reference, dispose } = await load(name);
    const [first] = readReference(reference).sequences;
    const ids = first?.ids ?? [];
    tuned.disable();
    const base = await logitsOf(tuned, ids);
    tuned.enable();
    const report = await tuned.merge();
    t.true(report.maxError < kLogitTolerance, `probes: ${report.maxError}`);
    t.true((await referenceError(tuned, readReference(reference))) < kLogitTolerance);

    const expected = await loadSafetensors(join(merged, `${name}.safetensors`));
    for (const [path, tensor] of expected) {
      const at = path.lastIndexOf('.');
      const holder = tuned.network.module(path.slice(0, at)) as unknown as Record<string, unknown>;
      const found =
        new Map([...tuned.network.namedParameters()]).get(path) ??
        (holder.base as Record<string, unknown> | undefined)?.[path.slice(at + 1)];
      const dense = found instanceof PackedWeight ? found.unpack() : (found as typeof tensor);
      t.true(relativeError((await dense.data()) as Float32Array, (await tensor.data()) as Float32Array) < kWeightTolerance, path);
      if (found instanceof PackedWeight) dense.dispose();
      tensor.dispose();
    }
    await tuned.unmerge();
    tuned.disable();
    t.true(sameBits(await logitsOf(tuned, ids), base));
    dispose();
  });
}

test.serial('merging into bf16 weights reports the rounding it costs', async (t) => {
  const model = await loadTiny('models/llama-bf16');
  const folder = join(golden, 'adapters', 'plain');
  const tuned = await loadAdapter(model, folder);
  const report = await tuned.merge();
  t.true(report.maxError > 1e-4 && report.maxError < 0.05, String(report.maxError));
  t.true(report.meanError <= report.maxError);
  t.is(report.layers.length, 4);
  tuned.dispose();
  model.dispose();
});
