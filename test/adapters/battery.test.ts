// Every method of the registry, with its defaults: what all adapters promise, whatever they are.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test from 'ava';
import { type AdapterConfig, adapterNames, attach, loadAdapter } from '#dist/adapters/index.js';
import { methodOf } from '#dist/adapters/registry.js';
import { resolveConfig } from '#dist/adapters/resolve-config.js';
import { TrainedCopy } from '#dist/adapters/trained-copy.js';
import { readSafetensorsHeader } from '#dist/io/safetensors-files.js';
import type { Model } from '#dist/model.js';
import type { Module } from '#dist/nn/index.js';
import { PackedWeight } from '#dist/ops/linalg.js';
import { noGrad, scope } from '#dist/scope.js';
import { loadTiny, logitsOf, relativeError, sameBits, temporaryFolder } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';
import { settledMemory } from '../helpers/settled-bytes.js';

const ids = [3, 17, 42, 5, 8, 80];
const kMergeTolerance = 1e-5;

/** The bits of every weight of a network. */
function weightsOf(network: Module): Map<string, Float32Array> {
  return new Map(
    [...network.namedParameters()].map(([path, value]) => {
      const dense = value instanceof PackedWeight ? value.unpack() : value.detach();
      const values = dense.dataSync() as Float32Array;
      dense.dispose();
      return [path, values];
    }),
  );
}

/** Methods whose weights a model must have: biases, or a head that is not tied to the embedding. */
const needsMore: readonly string[] = ['bitfit', 'full'];

/** The stream of the model is too narrow for the usual reduction rates, and its queries have another size than its keys. */
const sizes: Readonly<Record<string, object>> = {
  'block-adapter': { width: 4 },
  'mixture-of-adapters': { width: 4 },
  'shared-lora': { targets: { roles: ['attention.key', 'attention.value'] } },
};

// Methods for encoders alone are not for this model; test/adapters/encoder-methods.test.ts asks the same of them there.
for (const type of adapterNames.filter((name) => methodOf(name).networks !== 'encoders')) {
  const method = methodOf(type);
  const load = (): Promise<Model> => loadTiny(needsMore.includes(type) ? 'models/llama-biases-untied' : undefined);
  const config = { type, ...sizes[type] } as AdapterConfig;

  test(`${type}: the defaults are valid, an unknown key is not`, (t) => {
    t.notThrows(() => resolveConfig({ type }));
    t.throws(() => resolveConfig({ type, nonsenseKey: 1 }), {
      code: 'config',
      message: new RegExp(`unknown key "nonsenseKey" for "${type}"`),
    });
    for (const key of Object.keys(method.defaults as object))
      t.notThrows(() => resolveConfig({ type, [key]: (method.defaults as Record<string, unknown>)[key] }), key);
  });

  test.serial(
    `${type}: starts as the identity unless it says otherwise, changes the output once trained, and is off when disabled`,
    async (t) => {
      const model = await load();
      const base = await logitsOf(model, ids);
      const started = (await settledMemory()).tensors;
      const tuned = await attach(model, config, { seed: 1 });
      const start = await logitsOf(tuned, ids);
      const exact = method.startsAsIdentity?.(tuned.adapters.get('default').config) ?? true;
      t.true(start.every(Number.isFinite));
      t.is(sameBits(start, base), exact);
      perturb(tuned);
      const adapted = await logitsOf(tuned, ids);
      t.true(relativeError(adapted, base) > 1e-3);
      tuned.disable();
      t.true(sameBits(await logitsOf(tuned, ids), base));
      tuned.enable();
      t.true(sameBits(await logitsOf(tuned, ids), adapted));
      tuned.deactivate();
      t.true(sameBits(await logitsOf(tuned, ids), base));
      tuned.dispose();
      t.true(sameBits(await logitsOf(model, ids), base));
      t.is((await settledMemory()).tensors, started);
      model.dispose();
    },
  );

  test.serial(`${type}: the same seed gives the same start, another one another`, async (t) => {
    const model = await load();
    let copiesOnly = false;
    const start = async (seed: number): Promise<Float32Array[]> => {
      const tuned = await attach(model, config, { seed });
      copiesOnly = tuned.adapters.get('default').placements.every(({ module }) => module instanceof TrainedCopy);
      const values = tuned.parameters().map((value) => Float32Array.from(value.dataSync() as Float32Array));
      tuned.dispose();
      return values;
    };
    const [one, again, two] = [await start(1), await start(1), await start(2)];
    t.true(one.every((values, i) => sameBits(values, again[i] as Float32Array)));
    // Copies of weights start from those.
    if (!copiesOnly) t.false(one.every((values, i) => sameBits(values, two[i] as Float32Array)));
    model.dispose();
  });

  test.serial(`${type}: only its parameters get gradients, and the base keeps its bits in training`, async (t) => {
    const model = await load();
    const before = weightsOf(model.network);
    const tuned = await attach(model, config);
    perturb(tuned);
    scope(() => tuned.loss({ ids: [ids], training: true }).backward());
    for (const [name, value] of tuned.namedParameters()) {
      if (value.requiresGrad) scope(() => t.truthy(value.grad, name));
      t.true(value.dtype === 'f32' || value.dtype === 'u8', name);
    }
    t.is(model.network.trainableParameters().length, 0);
    const after = weightsOf(model.network);
    t.deepEqual([...after.keys()], [...before.keys()]);
    for (const [path, values] of before) t.true(sameBits(after.get(path) as Float32Array, values), path);
    tuned.dispose();
    model.dispose();
  });

  test.serial(`${type}: saved and loaded it computes the same, under names of its own prefix`, async (t) => {
    const model = await load();
    const tuned = await attach(model, config);
    perturb(tuned);
    const adapted = await logitsOf(tuned, ids);
    const folder = join(temporaryFolder(), 'adapter');
    if (method.peft === undefined) {
      await t.throwsAsync(tuned.save(folder), { code: 'config' });
    } else {
      await tuned.save(folder);
      const copied = tuned.adapters.get('default').placements.filter(({ module }) => module instanceof TrainedCopy);
      const { tensors } = readSafetensorsHeader(join(folder, 'adapter_model.safetensors'));
      for (const name of tensors.keys()) {
        if (copied.some(({ path }) => name.startsWith(`base_model.model.${path}.`))) continue;
        t.true(method.whole !== undefined || name.startsWith('base_model.model.model.layers.'), name);
        t.regex(name, new RegExp(`(^|\\.)${method.prefix}`));
      }
      const { config: own, placements } = tuned.adapters.get('default');
      const published = scope(() => noGrad(() => method.portable?.(own, placements, 'published').tensors ?? [...tuned.namedParameters()]));
      t.is(tensors.size, published.length);
      tuned.dispose();
      t.false(sameBits(await logitsOf(model, ids), adapted));
      const loaded = await loadAdapter(model, folder);
      t.true(sameBits(await logitsOf(loaded, ids), adapted));
      loaded.dispose();
    }
    tuned.dispose();
    model.dispose();
  });

  test.serial(`${type}: merged it computes the same, unmerged the weights have their bits back`, async (t) => {
    const model = await load();
    const before = weightsOf(model.network);
    const tuned = await attach(model, config);
    perturb(tuned);
    const adapted = await logitsOf(tuned, ids);
    const mergeable = tuned.adapters.get('default').placements.every(({ module }) => module.merge !== undefined);
    if (!mergeable) {
      await t.throwsAsync(tuned.merge(), { code: 'adapter', message: /cannot be folded into weights/ });
    } else {
      const { maxError } = await tuned.merge();
      t.true(maxError < kMergeTolerance);
      t.true(relativeError(await logitsOf(tuned, ids), adapted) < kMergeTolerance);
      await tuned.unmerge();
      t.true(sameBits(await logitsOf(tuned, ids), adapted));
      for (const [path, values] of weightsOf(model.network)) t.true(sameBits(values, before.get(path) as Float32Array), path);
    }
    tuned.dispose();
    model.dispose();
  });

  test.serial(`${type}: a row computes the same bits alone and beside rows of other adapters`, async (t) => {
    const model = await load();
    await attach(model, config, { name: 'one', seed: 1 });
    const tuned = await attach(model, config, { name: 'two', seed: 2 });
    for (const name of tuned.names) {
      tuned.activate(name);
      perturb(tuned, name === 'one' ? 0.3 : 0.4);
    }
    const rows = [['one'], [], ['two'], ['one']];
    const batch = [ids, ids, ids, [...ids].reverse()];
    const run = async (chosen: readonly number[]): Promise<Float32Array> =>
      scope(
        async () =>
          (await noGrad(() =>
            tuned.forward(
              chosen.map((row) => batch[row] as number[]),
              { rows: chosen.map((row) => rows[row] as string[]) },
            ),
          ).data()) as Float32Array,
      );
    const together = await run([0, 1, 2, 3]);
    const size = together.length / 4;
    for (const row of [0, 1, 2, 3]) t.true(sameBits(await run([row]), together.slice(row * size, (row + 1) * size)), `row ${row}`);
    tuned.dispose();
    model.dispose();
  });

  test.serial(`${type}: a folder without its tensors is an error`, async (t) => {
    if (method.peftType === undefined) return t.pass();
    const model = await load();
    const folder = join(temporaryFolder(), 'adapter');
    mkdirSync(folder);
    writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ peft_type: method.peftType }));
    await t.throwsAsync(loadAdapter(model, folder), { code: 'format' });
    t.truthy(dirname(folder));
    model.dispose();
  });
}
