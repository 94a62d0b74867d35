// Adapters that took a part out of the frozen weights: their forms in files, and how each is loaded.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import {
  type AdapterConfig,
  type AttachOptions,
  attach,
  type LoadAdapterOptions,
  loadAdapter,
  loadModel,
  type Model,
  saveModel,
  type TunedModel,
} from 'lorikeet';
import { loadSafetensors, readAdapter, saveGguf, saveSafetensors } from 'lorikeet/io';
import { tensor } from 'lorikeet/ops';
import { AdaptedLayer } from '#dist/adapters/adapted-layer.js';
import type { AnyInit } from '#dist/inits/init.js';
import { inits } from '#dist/inits/registry.js';
import type { Parameter } from '#dist/nn/module.js';
import { dense } from '#dist/nn/quantized.js';
import { loadTiny, logitsOf, relativeError, sameBits, temporaryFolder, valuesOf } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';

const ids = [3, 17, 42, 5, 8, 80];
const rows = [
  [3, 17, 42, 5, 8, 80, 12, 9],
  [7, 7, 30, 61, 2, 44, 10, 11],
];

const started = (model: Model, init: unknown, options: AttachOptions = {}, config: object = {}): Promise<TunedModel> =>
  attach(model, { type: 'lora', rank: 4, alpha: 8, targets: 'all-linear', init, ...config } as AdapterConfig, options);

/** What `use` gives on a fresh model. */
async function fresh<T>(use: (model: Model) => Promise<T>, folder?: string): Promise<T> {
  const model = folder === undefined ? await loadTiny() : await loadModel(folder);
  try {
    return await use(model);
  } finally {
    model.dispose();
  }
}

const configOf = (folder: string): Record<string, unknown> =>
  JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as Record<string, unknown>;

function changeConfig(folder: string, change: object): void {
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ ...configOf(folder), ...change }));
}

async function weightOf(model: Model, path: string): Promise<Float32Array> {
  const weight = new Map(model.network.namedParameters()).get(`${path}.weight`) as Parameter;
  return valuesOf(dense(weight));
}

/** What a saved model says that it lacks. */
async function markOf(model: Model): Promise<unknown> {
  const folder = join(temporaryFolder(), 'model');
  await saveModel(model, folder);
  return (JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Record<string, unknown>).lorikeet_residual;
}

const path = 'model.layers.1.mlp.down_proj';

/** A tuned adapter in all its forms, and what the model computed with it. */
async function saved(init: unknown, options: AttachOptions = {}) {
  const folder = temporaryFolder();
  const [published, initial, split] = ['published', 'initial', 'split'].map((form) => join(folder, form)) as [string, string, string];
  const logits = await fresh(async (model) => {
    const tuned = await started(model, init, options);
    perturb(tuned);
    await tuned.save(published);
    await tuned.save(initial, { form: 'initial' });
    await tuned.save(split, { form: 'split' });
    return logitsOf(tuned, ids);
  });
  return { published, initial, split, logits };
}

const methods: readonly AnyInit[] = Object.values(inits);

for (const { name, usesData, changesBase, formedFromFactors, defaults } of methods) {
  if (!changesBase) continue;
  const options = usesData ? { data: Array.from({ length: 4 }, () => rows) } : {};
  const begins = formedFromFactors?.(defaults) ?? true;

  test.serial(`${name}: the model that is left, and its adapter as trained`, async (t) => {
    const { split, logits } = await saved(name, options);
    const adapter = join(split, `${name.replaceAll('-', '_')}_init`);
    t.is(configOf(adapter).init_lora_weights, true);
    t.is(configOf(adapter).r, 4);
    t.is(configOf(adapter).lorikeet_residual, name);
    const config = JSON.parse(readFileSync(join(split, 'config.json'), 'utf8')) as Record<string, unknown>;
    t.is(config.lorikeet_residual, name);
    await fresh(async (model) => {
      t.true(relativeError(await logitsOf(model, ids), logits) > 1e-2);
      const tuned = await loadAdapter(model, adapter, { onWarning: (message) => t.fail(message) });
      t.true(relativeError(await logitsOf(tuned, ids), logits) < 1e-5);
      t.is(await markOf(model), name);
      await tuned.merge();
      t.is(await markOf(model), undefined);
      await tuned.unmerge();
      t.is(await markOf(model), name);
      await tuned.merge();
      tuned.dispose();
      t.is(await markOf(model), undefined);
      const again = join(temporaryFolder(), 'again');
      await saveModel(model, again);
      t.true(relativeError(await fresh((merged) => logitsOf(merged, ids), again), logits) < 1e-5);
    }, split);
  });

  test.serial(`${name}: ${begins ? 'begins again from' : 'refuses'} its initial factors`, async (t) => {
    const { initial } = await saved(name, options);
    t.is(configOf(initial).init_lora_weights, true);
    const first = await fresh(async (model) => {
      const tuned = await started(model, name, options);
      return [await weightOf(model, path), await logitsOf(tuned, ids)] as const;
    });
    await fresh(async (model) => {
      if (!begins) {
        await t.throwsAsync(started(model, name, { initial }), { code: 'config', message: /do not follow from its factors/ });
        return;
      }
      const tuned = await started(model, name, { initial });
      t.true(sameBits(await weightOf(model, path), first[0]));
      t.true(sameBits(await logitsOf(tuned, ids), first[1]));
    });
  });
}

test.serial('a file that names a repeatable split is loaded onto the published weights', async (t) => {
  const { split, initial, logits } = await saved('pissa');
  const adapter = join(split, 'pissa_init');
  changeConfig(adapter, { init_lora_weights: 'pissa' });
  for (const options of [{}, { initial }] as LoadAdapterOptions[]) {
    await fresh(async (model) => {
      const tuned = await loadAdapter(model, adapter, { ...options, strict: true });
      t.true(relativeError(await logitsOf(tuned, ids), logits) < 1e-5);
      const again = join(temporaryFolder(), 'again');
      await tuned.save(again);
      t.like(configOf(again), { init_lora_weights: true, r: 8, lora_alpha: 16 });
      const plain = await fresh(async (other) => logitsOf(await loadAdapter(other, again), ids));
      t.true(relativeError(plain, logits) < 1e-5);
    });
  }
  await fresh(
    (model) =>
      t.throwsAsync(loadAdapter(model, adapter), {
        code: 'adapter',
        message: /is marked "pissa" and would split the weights, but this model holds what "pissa" left of them/,
      }),
    split,
  );
});

test.serial('a file that names a random split needs its initial adapter, or leave to be near', async (t) => {
  const { split, initial, logits } = await saved({ type: 'pissa', niter: 1 }, { seed: 5 });
  const adapter = join(split, 'pissa_init');
  changeConfig(adapter, { init_lora_weights: 'pissa_niter_1' });
  await fresh(async (model) => {
    await t.throwsAsync(loadAdapter(model, adapter), { code: 'config', message: /its result cannot be computed again.*initial: FOLDER/ });
    const near = await loadAdapter(model, adapter, { approximate: true, seed: 6 });
    const error = relativeError(await logitsOf(near, ids), logits);
    t.true(error > 1e-5 && error < 1, String(error));
    near.dispose();
  });
  await fresh(async (model) => {
    const tuned = await loadAdapter(model, adapter, { initial });
    t.true(relativeError(await logitsOf(tuned, ids), logits) < 1e-5);
  });
});

test.serial('an initial adapter that does not fit is refused, and the model stays as it was', async (t) => {
  const { split, initial, published } = await saved('pissa');
  const adapter = join(split, 'pissa_init');
  const allTargets = configOf(adapter).target_modules;
  const base = await fresh((model) => logitsOf(model, ids));
  await fresh(async (model) => {
    const refused = async (options: LoadAdapterOptions, code: string, message: RegExp): Promise<void> => {
      await t.throwsAsync(loadAdapter(model, adapter, { ...options, strict: true }), { code, message });
      t.true(sameBits(await logitsOf(model, ids), base));
      t.true(sameBits(await weightOf(model, path), weight));
      t.false([...model.network.namedModules()].some(([at]) => model.network.module(at) instanceof AdaptedLayer));
    };
    const weight = await weightOf(model, path);
    await refused({ initial }, 'config', /is for the weights as they are; expected no "initial"/);
    changeConfig(adapter, { init_lora_weights: 'pissa', r: 5 });
    await refused({}, 'adapter', /does not fit the model.*\n.*of another shape/);
    changeConfig(adapter, { r: 4, target_modules: ['q_proj'] });
    await refused({}, 'adapter', /does not fit the model.*\n.*unexpected in the file/);
    changeConfig(adapter, { target_modules: allTargets });
    await refused({ initial: published }, 'adapter', /^attach: initial ".*" does not fit ".*"; got rank 8, expected 4/);
    changeConfig(initial, { lora_alpha: 16 });
    await refused({ initial }, 'adapter', /got scale 4 \(of alpha and rank\), expected 2/);
    changeConfig(initial, { lora_alpha: 8, init_lora_weights: 'pissa' });
    await refused({ initial }, 'adapter', /would split the weights once more; got init_lora_weights "pissa"/);
    changeConfig(initial, { init_lora_weights: true });
    changeConfig(adapter, { target_modules: ['q_proj', 'v_proj'] });
    await refused({ initial }, 'adapter', /does not fit the targets; got factors for a layer that is none of them/);
    await t.throwsAsync(started(model, 'pissa', { initial }, { targets: ['q_proj'] }), { code: 'adapter', message: /none of them/ });
    await t.throwsAsync(started(model, true, { initial }), { code: 'config', message: /expected no "initial"/ });
  });
});

test.serial('an initial adapter may hold modules saved whole, and must hold factors', async (t) => {
  const whole = { modulesToSave: ['lm_head'] };
  const { initial } = await saved('pissa');
  changeConfig(initial, { modules_to_save: ['lm_head'] });
  const file = join(initial, 'adapter_model.safetensors');
  const tensors = await loadSafetensors(file);
  const extra = { 'base_model.model.lm_head.weight': tensor([1, 2]) };
  await saveSafetensors(file, { ...Object.fromEntries(tensors), ...extra });
  const weight = await fresh(async (model) => {
    await started(model, 'pissa');
    return weightOf(model, path);
  });
  await fresh(async (model) => {
    await started(model, 'pissa', { initial }, whole);
    t.true(sameBits(await weightOf(model, path), weight));
  });
  await saveSafetensors(file, extra);
  await fresh(async (model) => {
    for (const [init, options] of [
      ['pissa', {}],
      ['eva', { data: [rows] }],
    ] as const)
      await t.throwsAsync(started(model, init, { ...options, initial }), {
        code: 'adapter',
        message: /^attach: initial ".*" does not fit any target; got no factors, expected ".*\.lora_A\.weight" or another target's/,
      });
  });
});

test.serial('factors of other layers are refused where the weights stay, too', async (t) => {
  const folder = join(temporaryFolder(), 'eva');
  await fresh(async (model) => {
    const tuned = await started(model, 'eva', { data: [rows] });
    await tuned.save(folder);
    tuned.dispose();
    await t.throwsAsync(started(model, 'eva', { initial: folder }, { targets: ['q_proj'] }), {
      code: 'adapter',
      message: /does not fit the targets; got factors for a layer that is none of them/,
    });
  });
});

test.serial('formats that cannot say that weights were split refuse them', async (t) => {
  const { split } = await saved('pissa');
  const adapter = join(split, 'pissa_init');
  (await readAdapter(adapter)).dispose();
  changeConfig(adapter, { init_lora_weights: 'pissa' });
  await t.throwsAsync(readAdapter(adapter), { code: 'format', message: /is for weights that "pissa" has changed; load it onto its model/ });
  await fresh(async (model) => {
    const tuned = await started(model, 'pissa');
    const file = join(temporaryFolder(), 'model.gguf');
    await t.throwsAsync(saveGguf(tuned, file), { code: 'adapter', message: /the weights lack the part that "pissa" took out of them/ });
    await tuned.merge();
    await t.notThrowsAsync(saveGguf(tuned, file));
  });
});

test.serial('merging another adapter does not make a split model whole', async (t) => {
  const { split } = await saved('pissa');
  const refusal = { code: 'adapter', message: /the weights lack the part that "pissa" took out of them/ };
  await fresh(async (model) => {
    const file = join(temporaryFolder(), 'model.gguf');
    await t.throwsAsync(saveGguf(model, file), refusal);
    const tuned = await started(model, true, { name: 'other' });
    await tuned.merge();
    t.is(await markOf(model), 'pissa');
    await t.throwsAsync(saveGguf(tuned, file), refusal);
    await tuned.unmerge();
    await loadAdapter(tuned, join(split, 'pissa_init'));
    await t.throwsAsync(saveGguf(tuned, file), refusal);
    await tuned.merge();
    await t.notThrowsAsync(saveGguf(tuned, file));
  }, split);
});

test.serial('a split model appears whole, and never in the folder of the model itself', async (t) => {
  const parent = temporaryFolder();
  const [source, folder] = [join(parent, 'source'), join(parent, 'split')];
  await fresh((model) => saveModel(model, source));
  const before = readFileSync(join(source, 'model.safetensors'));
  await fresh(async (model) => {
    const tuned = await started(model, 'pissa');
    for (const own of [source, `${parent}/split/../source/`])
      await t.throwsAsync(tuned.save(own, { form: 'split' }), { code: 'adapter', message: /got the model's own folder/ });
    await t.throwsAsync(tuned.save(folder, { form: 'split', dtype: 'f31' as never }));
    t.deepEqual(readdirSync(parent), ['source']);
    t.deepEqual(await tuned.save(folder, { form: 'split' }), [folder, join(folder, 'pissa_init')]);
  }, source);
  t.deepEqual(readdirSync(parent).sort(), ['source', 'split']);
  t.is(configOf(join(folder, 'pissa_init')).base_model_name_or_path, folder);
  t.deepEqual(readFileSync(join(source, 'model.safetensors')), before);
});

test.serial('other forms are of split adapters alone', async (t) => {
  await fresh(async (model) => {
    const tuned = await started(model, true);
    const folder = join(temporaryFolder(), 'adapter');
    await t.throwsAsync(tuned.save(folder, { form: 'split' }), { code: 'adapter', message: /form "split" is of one adapter that took/ });
    await t.throwsAsync(tuned.save(folder, { form: 'initial' }), { code: 'adapter', message: /form "initial" is of adapters that took/ });
    tuned.dispose();
    const split = await started(model, 'pissa');
    await split.merge();
    await t.throwsAsync(split.save(folder, { form: 'split' }), { code: 'adapter', message: /is not merged; got default/ });
  });
});
