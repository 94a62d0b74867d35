import { join } from 'node:path';
import test from 'ava';
import {
  AdapterError,
  type AdapterMethod,
  attach,
  attachMethod,
  type CommonConfig,
  ConfigError,
  commonDefaults,
  loadAdapter,
  memory,
  NonFiniteError,
  type Tensor,
} from 'lorikeet';
import { add, clone, copyInto, full, kSignBits, linear, mul, normal } from 'lorikeet/ops';
import type { BinaryBits } from '#dist/adapters/binary-config.js';
import { BinaryAdaptFormer, BinaryLora } from '#dist/adapters/binary-modules.js';
import type { TunedModel } from '#dist/adapters/index.js';
import { AffineParameters, Bottleneck, SublayerBranches } from '#dist/adapters/sublayer-bottleneck.js';
import { readSafetensorsHeader } from '#dist/io/safetensors-files.js';
import { noGrad, scope } from '#dist/scope.js';
import { loadTiny, logitsOf, relativeError, sameBits, temporaryFolder } from '../helpers/adapters.js';
import { numbers } from '../helpers/numbers.js';
import { perturb } from '../helpers/perturb.js';
import { settledTensors } from '../helpers/settled-bytes.js';

const ids = [3, 17, 42, 5, 8, 80];
const allBits: readonly BinaryBits[] = [...kSignBits, 32];
const both = ['adaptformer', 'lora'] as const;

const weightFile = (folder: string): string => join(folder, 'adapter_model.safetensors');
const modulesOf = (tuned: TunedModel): (BinaryAdaptFormer | BinaryLora)[] =>
  tuned.adapters
    .get('default')
    .placements.flatMap(({ module }) => (module instanceof BinaryAdaptFormer || module instanceof BinaryLora ? [module] : []));

test.serial('AdaptFormer goes onto blocks, LoRA onto queries and values', async (t) => {
  const model = await loadTiny();
  const paths = async (adapter: 'adaptformer' | 'lora'): Promise<string[]> => {
    using tuned = await attach(model, { type: 'binary', adapter });
    return tuned.table().map(({ path }) => path);
  };
  t.deepEqual(await paths('adaptformer'), ['model.layers.0', 'model.layers.1']);
  t.deepEqual(
    await paths('lora'),
    [0, 1].flatMap((layer) => ['q_proj', 'v_proj'].map((name) => `model.layers.${layer}.self_attn.${name}`)),
  );
  model.dispose();
});

test.serial('weights start as in the paper: down uniform, up of a normal distribution cut at two deviations, or zero in f32', async (t) => {
  const model = await loadTiny();
  for (const bits of [1, 32] as const) {
    using tuned = await attach(model, { type: 'binary', bits, dim: 400 });
    for (const { weights } of modulesOf(tuned)) {
      const down = await numbers(weights.down.master());
      const up = await numbers(weights.up.master());
      t.true(down.every((value) => Math.abs(value) <= 1 / Math.sqrt(32)));
      const deviation = (values: ArrayLike<number>): number =>
        Math.sqrt(Array.from(values).reduce((sum, x) => sum + x * x, 0) / values.length);
      t.true(Math.abs(deviation(down) * Math.sqrt(3 * 32) - 1) < 0.03);
      if (bits === 32) t.true(up.every((value) => value === 0));
      // Deviation of a standard normal distribution cut at 2: 0.87963.
      else t.true(up.every((value) => Math.abs(value) <= 2e-3) && Math.abs(deviation(up) / 0.87963e-3 - 1) < 0.02);
    }
  }
  model.dispose();
});

for (const adapter of both) {
  test.serial(`${adapter}: codes of every width load with the same bits, and cannot be trained on`, async (t) => {
    const model = await loadTiny();
    await logitsOf(model, ids); // makes the tables of positions
    for (const bits of allBits) {
      const folder = join(temporaryFolder(), 'codes');
      const before = await settledTensors();
      const tuned = await attach(model, { type: 'binary', adapter, bits, dim: 5, scale: 2 });
      perturb(tuned);
      const adapted = await logitsOf(tuned, ids);
      await tuned.save(folder);
      tuned.dispose();
      const loaded = await loadAdapter(model, folder);
      t.true(sameBits(await logitsOf(loaded, ids), adapted), `${bits} bits`);
      t.is(loaded.parameters().length === 0, bits !== 32);
      const again = join(temporaryFolder(), 'again');
      await loaded.save(again);
      t.deepEqual(readSafetensorsHeader(weightFile(again)), readSafetensorsHeader(weightFile(folder)));
      if (bits !== 32)
        await t.throwsAsync(loaded.save(again, { form: 'native' }), { instanceOf: AdapterError, message: /was loaded as codes/ });
      loaded.dispose();
      t.is(memory().tensors, before);
    }
    model.dispose();
  });

  test.serial(`${adapter}: kept with its weights it trains on where it was`, async (t) => {
    const model = await loadTiny();
    const folder = join(temporaryFolder(), 'native');
    const tuned = await attach(model, { type: 'binary', adapter, bits: 2, dim: 5, dropout: 0 });
    perturb(tuned);
    await tuned.save(folder, { form: 'native' });
    const gradients = (of: TunedModel): Promise<number[][]> =>
      scope(async () => {
        of.loss({ ids: [ids], training: true }).backward();
        return Promise.all(of.parameters().map((value) => numbers(value.grad as Tensor)));
      });
    const expected = await gradients(tuned);
    tuned.dispose();
    const loaded = await loadAdapter(model, folder);
    t.deepEqual(await gradients(loaded), expected);
    t.true(expected.length > 0 && expected.every((values) => values.some((value) => value !== 0)));
    loaded.dispose();
    model.dispose();
  });

  test.serial(`${adapter}: the stored bytes are those of codes, mean and deviation`, async (t) => {
    const model = await loadTiny();
    using tuned = await attach(model, { type: 'binary', adapter, dim: 8 });
    const folder = join(temporaryFolder(), 'small');
    await tuned.save(folder, { dtype: 'bf16' });
    const { tensors, metadata } = readSafetensorsHeader(weightFile(folder));
    t.like(metadata, { bits: '1', dim: '8', scale: '1', code_book: 'normal-median-500' });
    let [bytes, codes] = [0, 0];
    for (const [name, { dtype, shape }] of tensors) {
      const size = shape.reduce((product, each) => product * each, 1);
      t.is(dtype, name.endsWith('.qweight') ? 'U8' : 'F32', name);
      bytes += dtype === 'U8' ? size : 4 * size;
      codes += Number(dtype === 'U8');
    }
    const weights = modulesOf(tuned).flatMap(({ weights: { down, up } }) => [down.shape, up.shape]);
    t.is(codes, weights.length);
    t.is(
      bytes,
      weights.reduce((total, [n = 0, k = 0]) => total + (n * k) / 8 + 8, 0),
    );
    model.dispose();
  });
}

/** A plain bottleneck beside the MLP that reads the stream, with given weights. */
function plainAdaptFormer(pairs: ReadonlyMap<string, readonly [Tensor, Tensor]>, scale: number): AdapterMethod<'plain', CommonConfig> {
  return {
    name: 'plain',
    prefix: 'adapter_',
    defaults: commonDefaults,
    check: () => {},
    roles: ['block'],
    kinds: ['other'],
    create: ({ path }) => {
      const [down, up] = pairs.get(path) as readonly [Tensor, Tensor];
      const branch = new Bottleneck(new AffineParameters(down), new AffineParameters(up), { activation: 'relu', scale });
      return new SublayerBranches({ mlp: branch }, 'residual', 0, path);
    },
  };
}

test.serial('32 bits are the plain adapter, bit for bit', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'binary', bits: 32, dim: 6, scale: 10 });
  perturb(tuned);
  const adapted = await logitsOf(tuned, ids);
  const pairs = new Map(
    tuned.adapters.get('default').placements.map(({ path, module }) => {
      const { down, up } = (module as BinaryAdaptFormer).weights;
      return [path, [clone(down.master().detach()), clone(up.master().detach())] as const];
    }),
  );
  tuned.dispose();
  const plain = await attachMethod(model, plainAdaptFormer(pairs, 10));
  t.true(sameBits(await logitsOf(plain, ids), adapted));
  plain.dispose();
  model.dispose();
});

test.serial('LoRA adds scale U D x, with dropout in training alone', async (t) => {
  const model = await loadTiny();
  using tuned = await attach(model, { type: 'binary', adapter: 'lora', bits: 4, dim: 6, scale: 3, dropout: 0.5 });
  perturb(tuned);
  await scope(async () => {
    const [module] = modulesOf(tuned) as BinaryLora[];
    const { down, up } = (module as BinaryLora).weights;
    const x = normal([4, 32], { seed: 1 });
    const y = normal([4, 32], { seed: 2 });
    const call = { x, base: undefined as never, next: () => y, first: true };
    const expected = await numbers(add(y, mul(linear(linear(x, down.values()), up.values()), 3)));
    t.deepEqual(await numbers((module as BinaryLora).forward({ ...call, context: undefined })), expected);
    t.notDeepEqual(await numbers((module as BinaryLora).forward({ ...call, context: { training: true } })), expected);
    tuned.setScale('default', 0);
    t.deepEqual(await numbers((module as BinaryLora).forward({ ...call, context: undefined })), await numbers(y));
  });
  model.dispose();
});

test.serial('as plain LoRA it computes the same, and so do the merged weights', async (t) => {
  for (const bits of allBits) {
    const model = await loadTiny();
    const folder = join(temporaryFolder(), 'lora');
    const tuned = await attach(model, { type: 'binary', adapter: 'lora', bits, dim: 4, scale: 0.5 });
    perturb(tuned);
    const adapted = await logitsOf(tuned, ids);
    await tuned.save(folder, { form: 'lora' });
    await tuned.merge();
    t.true(relativeError(await logitsOf(tuned, ids), adapted) < 1e-5);
    await tuned.unmerge();
    tuned.dispose();
    const plain = await loadAdapter(model, folder);
    t.is(plain.adapters.get('default').method.name, 'lora');
    t.true(relativeError(await logitsOf(plain, ids), adapted) < 1e-5, `${bits} bits`);
    plain.dispose();
    model.dispose();
  }
});

test.serial('forms that it does not have are refused', async (t) => {
  const model = await loadTiny();
  using tuned = await attach(model, { type: 'binary' });
  const folder = join(temporaryFolder(), 'none');
  await t.throwsAsync(tuned.save(folder, { form: 'lora' }), {
    instanceOf: AdapterError,
    message: /on linear layers; got adapter "adaptformer"/,
  });
  await t.throwsAsync(tuned.save(folder, { form: 'initial' }), {
    instanceOf: AdapterError,
    message: /expected "published", "native" or "lora"/,
  });
  await t.throwsAsync(attach(model, { type: 'binary', storage: 'codes' }, { name: 'other' }), {
    instanceOf: ConfigError,
    message: /storage "codes"/,
  });
  model.dispose();
});

test.serial('options that cannot work are refused', async (t) => {
  const model = await loadTiny();
  const wrong: [object, RegExp][] = [
    [{ bits: 3 }, /bits cannot be used; got 3, expected 1, 2, 4, 8 or 32/],
    [{ adapter: 'prefix' }, /adapter cannot be used/],
    [{ dim: 0 }, /dim/],
    [{ scale: Number.NaN }, /scale/],
    [{ dropout: 1 }, /dropout/],
    [{ bihead: 'yes' }, /bihead/],
    [{ storage: 'file' }, /storage/],
    [{ adapter: 'lora', targets: ['mlp'] }, /cannot adapt "model\.layers\.0\.mlp"/],
    [{ bihead: true, modulesToSave: ['lm_head'] }, /both stand for "lm_head"/],
  ];
  for (const [options, message] of wrong)
    await t.throwsAsync(attach(model, { type: 'binary', ...options }), { instanceOf: ConfigError, message });
  model.dispose();
});

test.serial('a matrix that cannot be quantised is an error that names it, in training and in saving', async (t) => {
  const model = await loadTiny();
  using tuned = await attach(model, { type: 'binary' });
  const { up } = (modulesOf(tuned)[1] as BinaryAdaptFormer).weights;
  const { shape } = up;
  const put = (values: Tensor): void => scope(() => noGrad(() => copyInto(up.master(), values)));
  put(full(shape, 0.5));
  await t.throwsAsync(logitsOf(tuned, ids), {
    message: /"model\.layers\.1: up": the values of \[32, 32\] are all the same.*truncated normal/,
  });
  await t.throwsAsync(tuned.save(join(temporaryFolder(), 'constant')), { message: /"model\.layers\.1: up"/ });
  put(full(shape, Number.NaN));
  await t.throwsAsync(tuned.save(join(temporaryFolder(), 'broken')), { instanceOf: NonFiniteError, message: /"model\.layers\.1: up"/ });
  model.dispose();
});
