// What every initialisation promises, run over the registry on a tiny language model.
import { join } from 'node:path';
import test from 'ava';
import { type AdapterConfig, attach, loadAdapter, loadModel, type Model, type TunedModel } from 'lorikeet';
import type { AnyInit } from '#dist/inits/init.js';
import { inits } from '#dist/inits/registry.js';
import { PackedWeight } from '#dist/ops/linalg.js';
import { golden, loadTiny, logitsOf, relativeError, sameBits, temporaryFolder } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';

const ids = [3, 17, 42, 5, 8, 80];
const rows = [
  [3, 17, 42, 5, 8, 80, 12, 9],
  [7, 7, 30, 61, 2, 44, 10, 11],
];

const methods: Readonly<Record<string, AnyInit>> = inits;

const started = (model: Model, name: string, options: object = {}): Promise<TunedModel> => {
  const method = methods[name] as AnyInit;
  const config = { type: 'lora', rank: 4, alpha: 8, targets: 'all-linear', init: { type: name }, ...options };
  return attach(model, config as unknown as AdapterConfig, method.usesData ? { data: Array.from({ length: 4 }, () => rows) } : {});
};

/** Whether frozen weights are in few bits: then the model is near its base, not at it, but nearer than with weights in NF4 and nothing beside them. */
const inFewBits = (model: Model): boolean =>
  [...model.network.namedParameters()].some(([, value]) => value instanceof PackedWeight && value.quantization !== undefined);

async function errorOfNf4(base: Float32Array): Promise<number> {
  const model = await loadModel(join(golden, 'models/llama-gqa-tied'), { dtype: 'nf4' });
  const error = relativeError(await logitsOf(model, ids), base);
  model.dispose();
  return error;
}

for (const [name, method] of Object.entries(methods)) {
  test.serial(`${name}: starts as the base, and the base is there whenever the adapter is not`, async (t) => {
    const model = await loadTiny();
    const base = await logitsOf(model, ids);
    const tuned = await started(model, name);
    const start = await logitsOf(tuned, ids);
    const few = inFewBits(model);
    t.true(relativeError(start, base) < (few ? await errorOfNf4(base) : 1e-5));
    perturb(tuned);
    t.true(relativeError(await logitsOf(tuned, ids), start) > 1e-3);
    tuned.disable();
    t.true(relativeError(await logitsOf(tuned, ids), start) < 1e-5);
    tuned.enable();
    const adapted = await logitsOf(tuned, ids);
    await tuned.merge({ dequantize: few });
    t.true(relativeError(await logitsOf(tuned, ids), adapted) < 1e-5);
    await tuned.unmerge();
    t.true(sameBits(await logitsOf(tuned, ids), adapted));
    tuned.dispose();
    t.true(relativeError(await logitsOf(model, ids), start) < 1e-5);
    model.dispose();
  });

  test.serial(`${name}: the saved adapter belongs to the published base`, async (t) => {
    for (const rsLora of [false, true]) {
      const model = await loadTiny();
      const tuned = await started(model, name, { rsLora });
      perturb(tuned);
      const adapted = await logitsOf(tuned, ids);
      const few = inFewBits(model);
      const folder = join(temporaryFolder(), 'adapter');
      await tuned.save(folder);
      tuned.dispose();
      // What few bits lost is not in the adapter.
      const fresh = few ? model : await loadTiny();
      const loaded = await loadAdapter(fresh, folder);
      t.true(relativeError(await logitsOf(loaded, ids), adapted) < 1e-5);
      for (const each of new Set([fresh, model])) each.dispose();
    }
  });

  test.serial(`${name}: the same seed gives the same bits`, async (t) => {
    const values = async (): Promise<Float32Array[]> => {
      const model = await loadTiny();
      const tuned = await started(model, name);
      const found = await Promise.all([...tuned.namedParameters()].map(async ([, value]) => (await value.data()) as Float32Array));
      model.dispose();
      return found;
    };
    const [one, two] = [await values(), await values()];
    t.is(one.length, two.length);
    t.true(one.every((value, i) => sameBits(value, two[i] as Float32Array)));
  });

  if (method.changesBase) {
    test.serial(`${name}: a merged model keeps its bits when the adapter goes`, async (t) => {
      const model = await loadTiny();
      const tuned = await started(model, name);
      perturb(tuned);
      await tuned.merge({ dequantize: true });
      const merged = await logitsOf(tuned, ids);
      tuned.dispose();
      t.true(sameBits(await logitsOf(model, ids), merged));
      model.dispose();
    });

    test.serial(`${name}: no other adapter beside it, whichever comes first, and no split of a head that is the embedding`, async (t) => {
      const model = await loadTiny();
      const tuned = await started(model, name);
      await t.throwsAsync(attach(tuned, { type: 'lora' }, { name: 'second' }), {
        code: 'adapter',
        message: /"second" cannot be beside "default", which took a part out of the frozen weights; save "default"/,
      });
      tuned.dispose();
      const first = await attach(model, { type: 'lora', dora: true }, { name: 'first' });
      const options = method.usesData ? { data: [rows] } : {};
      await t.throwsAsync(
        attach(first, { type: 'lora', rank: 4, init: { type: name } } as unknown as AdapterConfig, { ...options, name: 'split' }),
        {
          code: 'adapter',
          message:
            /"split" takes a part out of the frozen weights \(.*\), for which "first" would no longer be right; remove "first" first/,
        },
      );
      first.dispose();
      await t.throwsAsync(started(model, name, { targets: ['lm_head'] }), {
        code: 'adapter',
        message: /"lm_head" is that of the embedding/,
      });
      model.dispose();
    });
  }
}
