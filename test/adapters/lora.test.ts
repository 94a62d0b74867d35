import { readFileSync } from 'node:fs';
import test from 'ava';
import { attach } from '#dist/adapters/index.js';
import { rankAndScale } from '#dist/adapters/lora.js';
import { inference } from '#dist/nn/index.js';
import { tensor } from '#dist/ops/create.js';
import { mul, square } from '#dist/ops/elementwise.js';
import { matmul } from '#dist/ops/linalg.js';
import { sum } from '#dist/ops/reduce.js';
import { copyInto } from '#dist/ops/shape.js';
import { memory, noGrad, scope } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';
import { relativeError, sameBits, valuesOf } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';
import { settledTensors } from '../helpers/settled-bytes.js';
import { kVocabulary, kWidth, noise, TinyNetwork } from '../helpers/tiny-network.js';

const ids = (): Tensor =>
  tensor(
    [
      [3, 7, 1],
      [0, 19, 7],
    ],
    { dtype: 'i64' },
  );
const output = (network: TinyNetwork): Promise<Float32Array> => noGrad(() => valuesOf(scope(() => network.forward(ids()))));

const everywhere = { type: 'lora', rank: 4, alpha: 8, targets: ['embed', 'q_proj', 'down_proj', 'head'] } as const;

for (const init of [true, 'gaussian', 'orthogonal'] as const) {
  test.serial(`init ${init}: the adapted network starts as the base`, async (t) => {
    const network = new TinyNetwork();
    const before = await output(network);
    const set = await attach(network, { type: 'lora', rank: 4, init, targets: ['q_proj', 'down_proj'] });
    const after = await output(network);
    if (init === 'orthogonal') t.true(relativeError(after, before) < 1e-6);
    else t.true(sameBits(after, before));
    set.dispose();
    network.dispose();
  });
}

test.serial('init orthogonal: B A = 0 with both not zero; an odd rank is an error', async (t) => {
  const network = new TinyNetwork();
  const set = await attach(network, { type: 'lora', rank: 4, init: 'orthogonal', targets: ['q_proj'] });
  const [a, b] = set.parameters() as [Tensor, Tensor];
  const product = await valuesOf(scope(() => noGrad(() => matmul(b, a))));
  t.true(Math.max(...product.map(Math.abs)) < 1e-6);
  t.true(Math.max(...((await a.data()) as Float32Array)) > 0.01);
  t.true(Math.max(...((await b.data()) as Float32Array)) > 0.01);
  await t.throwsAsync(attach(network, { type: 'lora', rank: 3, init: 'orthogonal', targets: ['q_proj'] }, { name: 'b' }), {
    message: /needs an even rank; got 3/,
  });
  set.dispose();
  network.dispose();
});

test.serial('init true lies within 1 / sqrt(inputs), gaussian has deviation 1 / rank, false changes the output', async (t) => {
  const network = new TinyNetwork();
  const before = await output(network);
  const values = async (init: boolean | 'gaussian'): Promise<Float32Array> => {
    const set = await attach(network, { type: 'lora', rank: 8, init, targets: ['q_proj'] }, { seed: 5 });
    const a = Float32Array.from((await set.parameters()[0]?.data()) as Float32Array);
    if (init === false) t.false(sameBits(await output(network), before));
    set.dispose();
    return a;
  };
  const uniform = await values(true);
  t.true(Math.max(...uniform.map(Math.abs)) <= 1 / Math.sqrt(kWidth));
  t.true(Math.max(...uniform.map(Math.abs)) > 0.8 / Math.sqrt(kWidth));
  const gaussian = await values('gaussian');
  const deviation = Math.sqrt(gaussian.reduce((total, x) => total + x * x, 0) / gaussian.length);
  t.true(Math.abs(deviation - 1 / 8) < 0.03, String(deviation));
  t.deepEqual(await values(false), uniform);
  network.dispose();
});

test('PEFT gives the same rank, alpha and scale to every layer', (t) => {
  const { ranks } = JSON.parse(readFileSync('test/golden/matching.json', 'utf8')) as {
    ranks: { options: Record<string, never>; layers: Record<string, { rank: number; scale: number }> }[];
  };
  for (const { options, layers } of ranks) {
    const { r, lora_alpha: alpha, rank_pattern: rankPattern = {}, alpha_pattern: alphaPattern = {}, use_rslora: rsLora = false } = options;
    for (const [path, expected] of Object.entries(layers)) {
      const got = rankAndScale({ rank: r ?? 8, alpha: alpha ?? 8, rankPattern, alphaPattern, rsLora }, path);
      t.is(got.rank, expected.rank, path);
      t.true(Math.abs(got.scale - expected.scale) < 1e-12, path);
    }
  }
});

test.serial('parameters are counted as R (K + N) a layer, and the table says where they are', async (t) => {
  const network = new TinyNetwork();
  const set = await attach(network, { type: 'lora', rank: 3, targets: ['q_proj', 'down_proj'], loraBias: true });
  const rows = set.table();
  t.deepEqual(
    rows.map(({ path, parameters }) => [path, parameters]),
    [
      ['q_proj', 3 * (kWidth + 2 * kWidth) + 2 * kWidth],
      ['down_proj', 3 * (2 * kWidth + kWidth) + kWidth],
    ],
  );
  t.deepEqual(rows[0]?.shapes, { 'lora_A.weight': [3, kWidth], 'lora_B.weight': [2 * kWidth, 3], 'lora_B.bias': [2 * kWidth] });
  set.dispose();
  network.dispose();
});

test.serial('setScale multiplies the configured scale, not the current one', async (t) => {
  const network = new TinyNetwork();
  const before = await output(network);
  const set = await attach(network, { type: 'lora', targets: ['head'], init: false });
  const once = await output(network);
  set.setScale('default', 2);
  set.setScale('default', 2);
  const twice = await output(network);
  // The adapter sits on the last layer, so the output is linear in its scale.
  const expected = once.map((value, i) => 2 * value - (before[i] ?? 0));
  t.true(relativeError(twice, expected) < 1e-6);
  set.dispose();
  network.dispose();
});

for (const options of [
  {},
  { rsLora: true },
  { loraBias: true, targets: ['q_proj', 'down_proj'] },
  { dora: true },
  { bias: 'all' },
  { modulesToSave: ['down_proj'], targets: ['q_proj'] },
] as const) {
  test.serial(`merged computes as adapted, and unmerging gives the base back: ${JSON.stringify(options)}`, async (t) => {
    const network = new TinyNetwork();
    const base = await output(network);
    const started = await settledTensors();
    const set = await attach(network, { ...everywhere, ...options });
    perturb(set);
    const adapted = await output(network);
    t.true(relativeError(adapted, base) > 0.01);
    const report = await set.merge();
    t.true(report.maxError < 1e-5, String(report.maxError));
    t.deepEqual(set.merged, ['default']);
    t.true(relativeError(await output(network), adapted) < 1e-5);
    set.unmerge();
    t.true(sameBits(await output(network), adapted));
    set.disable();
    t.true(sameBits(await output(network), base));
    set.enable();
    set.dispose();
    t.true(sameBits(await output(network), base));
    t.is(memory().tensors, started);
    network.dispose();
  });
}

test.serial('without kept weights unmerging subtracts, to rounding', async (t) => {
  const network = new TinyNetwork();
  const base = await output(network);
  const set = await attach(network, everywhere);
  perturb(set);
  await set.merge({ keepBase: false });
  set.unmerge();
  set.disable();
  t.true(relativeError(await output(network), base) < 1e-6);
  set.dispose();
  network.dispose();
});

test.serial('a merge that is not finite throws and leaves everything as it was', async (t) => {
  const network = new TinyNetwork();
  const base = await output(network);
  const set = await attach(network, everywhere);
  const [, second] = set.parameters().slice(-2) as [Tensor, Tensor];
  scope(() => noGrad(() => copyInto(second, mul(noise(second.shape, 1), Number.POSITIVE_INFINITY))));
  await t.throwsAsync(set.merge(), { code: 'non-finite', message: /merged weights of "head" are not finite; nothing was changed/ });
  t.deepEqual(set.merged, []);
  set.disable();
  t.true(sameBits(await output(network), base));
  set.dispose();
  network.dispose();
});

test.serial('while merged, what would need the unmerged weights is refused', async (t) => {
  const network = new TinyNetwork();
  const set = await attach(network, { type: 'lora', targets: ['q_proj'] });
  await t.throwsAsync(attach(network, { type: 'lora', targets: ['q_proj'] }), {
    code: 'adapter',
    message: /there is an adapter "default" already/,
  });
  await set.merge();
  t.throws(() => set.disable(), { message: /disable: unmerge first; default is merged/ });
  t.throws(() => set.activate([]), { message: /activate: unmerge first/ });
  await t.throwsAsync(set.merge(), { message: /merge: unmerge first/ });
  t.throws(() => network.forward(ids(), { ...inference, rows: [['default'], []] }), { message: /adapters by row: unmerge first/ });
  set.unmerge();
  t.throws(() => set.unmerge(), { message: /nothing is merged/ });
  set.dispose();
  network.dispose();
});

test.serial('loraBias cannot be folded into a layer without a bias', async (t) => {
  const network = new TinyNetwork('f32', false);
  const set = await attach(network, { type: 'lora', targets: ['q_proj'], loraBias: true });
  await t.throwsAsync(set.merge(), { code: 'adapter', message: /loraBias cannot be folded/ });
  set.dispose();
  network.dispose();
});

test.serial('several active adapters add up, and names are checked', async (t) => {
  const network = new TinyNetwork();
  const base = await output(network);
  const head = { type: 'lora', targets: ['head'], init: false } as const;
  const set = await attach(network, { ...head, rank: 2 }, { name: 'a', seed: 1 });
  await attach(network, { ...head, rank: 5 }, { name: 'b', seed: 2 });
  t.deepEqual(set.active, ['b']);
  const b = await output(network);
  set.activate('a');
  const a = await output(network);
  set.activate(['a', 'b']);
  const both = await output(network);
  t.true(
    relativeError(
      both,
      base.map((value, i) => (a[i] ?? 0) + (b[i] ?? 0) - value),
    ) < 1e-6,
  );
  set.deactivate('a');
  t.true(sameBits(await output(network), b));
  set.remove('b');
  t.true(sameBits(await output(network), base));
  t.throws(() => set.activate('c'), { code: 'adapter', message: /there is none called "c"; there are a/ });
  for (const name of ['x.y', '', 'q_proj', 'a b'])
    await t.throwsAsync(attach(network, head, { name }), { code: 'adapter', message: /attach: an adapter/ });
  set.dispose();
  network.dispose();
});

test.serial('only the adapter gets gradients, and training leaves the base bit-identical', async (t) => {
  const network = new TinyNetwork();
  const base = await output(network);
  const set = await attach(network, everywhere);
  perturb(set);
  scope(() => sum(square(network.forward(ids()))).backward());
  for (const [name, value] of set.namedParameters()) t.truthy(value.grad, name);
  t.is(network.trainableParameters().length, 0);
  set.disable();
  t.true(sameBits(await output(network), base));
  set.dispose();
  network.dispose();
});

test.serial('dropout acts in training alone, on the branch alone', async (t) => {
  const network = new TinyNetwork();
  const set = await attach(network, { type: 'lora', targets: ['head'], init: false, dropout: 0.5 }, { seed: 9 });
  const still = await output(network);
  t.true(sameBits(await output(network), still));
  const training = (): Promise<Float32Array> => noGrad(() => valuesOf(scope(() => network.forward(ids(), { training: true }))));
  const state = set.randomState('default');
  const first = await training();
  t.false(sameBits(first, still));
  t.false(sameBits(await training(), first));
  set.restoreRandomState('default', state);
  t.true(sameBits(await training(), first));
  set.dispose();
  network.dispose();
});

test.serial('one adapter may train biases; trained rows need their embedding', async (t) => {
  const network = new TinyNetwork();
  const set = await attach(network, { type: 'lora', targets: ['q_proj'], bias: 'lora_only' }, { name: 'a' });
  await t.throwsAsync(attach(network, { type: 'lora', targets: ['q_proj'], bias: 'all' }, { name: 'b' }), {
    message: /only one adapter may train biases/,
  });
  await t.throwsAsync(attach(network, { type: 'lora', targets: ['embed'], trainableTokenIndices: [1] }, { name: 'b' }), {
    message: /expected one of the two/,
  });
  await t.throwsAsync(attach(network, { type: 'lora', targets: ['q_proj'], trainableTokenIndices: [kVocabulary] }, { name: 'b' }), {
    message: /got 20, expected below 20/,
  });
  await t.throwsAsync(attach(network, { type: 'lora', targets: ['q_proj'], trainableTokenIndices: { embde: [1] } }, { name: 'b' }), {
    message: /did you mean "embed"/,
  });
  t.deepEqual(set.names, ['a']);
  set.dispose();
  network.dispose();
});

test.serial('a fired signal leaves the network as it was', async (t) => {
  const network = new TinyNetwork();
  const started = await settledTensors();
  await t.throwsAsync(attach(network, { type: 'lora' }, { signal: AbortSignal.abort('stop') }), { code: 'cancelled' });
  t.is(memory().tensors, started);
  network.dispose();
});

test.serial('a method that reads no data refuses data', async (t) => {
  const network = new TinyNetwork();
  await t.throwsAsync(attach(network, { type: 'lora' }, { data: [] }), {
    code: 'config',
    message: /"lora" with these options reads no data/,
  });
  network.dispose();
});

test.serial('a tied dense head is merged without touching its embedding, kept or not', async (t) => {
  for (const keepBase of [true, false]) {
    const network = new TinyNetwork('f64');
    const set = await attach(network, { type: 'lora', targets: ['head'], init: false });
    const adapted = await output(network);
    await set.merge({ keepBase });
    t.true(relativeError(await output(network), adapted) < 1e-12);
    set.dispose();
    t.notThrows(() => scope(() => network.forward(ids())));
    network.dispose();
  }
});
