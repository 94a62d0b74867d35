// What goes around the sub-layers of encoders, by the identities of its papers.
import test from 'ava';
import { type AdapterConfig, attach, memory, noGrad, scope, type Tensor } from 'lorikeet';
import { mean, narrow, normal, sum, tensor, zeros } from 'lorikeet/ops';
import type { Target } from '#dist/adapters/adapter.js';
import { blockAdapter } from '#dist/adapters/block-adapter.js';
import { SoftMixture } from '#dist/adapters/mixture-branches.js';
import { AffineParameters, Bottleneck, type Branch } from '#dist/adapters/sublayer-bottleneck.js';
import type { EncoderNetwork } from '#dist/models/encoder.js';
import { add, mul, square } from '#dist/ops/elementwise.js';
import { copyInto } from '#dist/ops/shape.js';
import { RandomSource } from '#dist/random.js';
import { relativeError, sameBits } from '../helpers/adapters.js';
import { answer, bits, gradientOf, inputOf, open, plain, values } from '../helpers/encoder-methods.js';
import { perturb } from '../helpers/perturb.js';

// ---- where an adapter is

const context = { dtype: 'f64', seed: 1, stream: (path: string, name: string): number => path.length + 31 * name.length } as never;
const block = async (): Promise<{ network: EncoderNetwork; target: Target }> => {
  const network = await open();
  const path = 'audio_spectrogram_transformer.encoder.layer.0';
  return { network, target: { path, kind: 'other', role: 'block', layer: network.module(path) as Target['layer'] } };
};
const around = (network: EncoderNetwork): never => ({ ...(context as object), network }) as never;

test.serial('the table of residuals, and every place, as their formulas', async (t) => {
  const { network, target } = await block();
  const D = network.shape.hiddenSize;
  const random = (stream: number): Tensor => normal([1, 3, D], { dtype: 'f64', seed: 3, stream });
  scope(() => {
    const [n, residual] = [random(1), random(2)];
    const S = (x: Tensor): Tensor => add(mul(x, 2), square(x));
    const zero = mul(n, 0);
    for (const [placement, residualChoice, expected] of [
      ['parallel', false, (a: (x: Tensor) => Tensor) => add(S(n), a(n))],
      ['parallel', true, (a: (x: Tensor) => Tensor) => add(add(S(n), a(n)), n)],
      ['sequential', true, (a: (x: Tensor) => Tensor) => add(S(n), a(S(n)))],
      ['sequential', false, (a: (x: Tensor) => Tensor) => a(S(n))],
      ['before', false, (a: (x: Tensor) => Tensor) => add(S(a(n)), a(n))],
      ['before', true, (a: (x: Tensor) => Tensor) => add(S(add(n, a(n))), a(n))],
    ] as const) {
      const config = { ...blockAdapter.defaults, width: 3, placement, residual: residualChoice };
      const call = { point: 'mlp', input: n, residual, context: plain, next: S } as const;
      const still = blockAdapter.create(target, { ...config, init: 'zero' }, around(network));
      const nothing = values(expected(() => zero));
      t.true(
        values(still.sublayer(call)).every((x, i) => Math.abs(x - (nothing[i] as number)) < 1e-12),
        `${placement} ${residualChoice}, nothing`,
      );
      still.dispose();
      const moved = blockAdapter.create(target, { ...config, init: 'trunc_normal_0.02' }, around(network));
      const a = (x: Tensor): Tensor => (moved.adapter_mlp as Branch).forward(x, { training: false, random: new RandomSource(1) });
      t.true(relativeError(values(moved.sublayer(call)), values(expected(a))) < 1e-14, `${placement} ${residualChoice}`);
      moved.dispose();
    }
  });
  network.dispose();
});

test.serial('starts: as the base bit for bit, or literally zero, which learns the last bias alone', async (t) => {
  const network = await open();
  const input = inputOf(network);
  const base = answer(network, input);
  for (const config of [
    { type: 'block-adapter', sublayers: 'both', width: 3 },
    { type: 'block-adapter', placement: 'sequential', width: 3 },
    { type: 'block-adapter', placement: 'before', width: 3 },
    { type: 'block-adapter', block: 'convpass', convolution: '2d', width: 3 },
    { type: 'block-adapter', block: 'conformer', width: 3, kernelSize: 5 },
    { type: 'mixture-of-adapters', width: 3 },
    { type: 'mixture-of-adapters', mixture: 'soft', normalize: true, slots: 2, width: 3 },
    { type: 'bitfit' },
    { type: 'linear-probe' },
    { type: 'full' },
  ] as AdapterConfig[]) {
    const set = await attach(network, config);
    t.true(sameBits(answer(network, input), base), JSON.stringify(config));
    set.dispose();
  }
  t.true(sameBits(answer(network, input), base));
  for (const type of ['trunc_normal_0.02', 'zero'] as const) {
    const set = await attach(network, { type: 'block-adapter', width: 3, init: type });
    scope(() => sum(square(network.forward(input, { training: true }))).backward());
    const largest = (end: string): number =>
      Math.max(...[...set.namedParameters()].filter(([name]) => name.endsWith(end)).flatMap(([, x]) => [...gradientOf(x)].map(Math.abs)));
    t.is(largest('adapter_mlp.down.weight') === 0, type === 'zero');
    t.is(largest('adapter_mlp.up.weight') === 0, type === 'zero');
    t.true(largest('adapter_mlp.up.bias') > 0);
    set.dispose();
  }
  for (const x of Object.values(input)) x.dispose();
  network.dispose();
});

// ---- gradients

/** Worst difference, relative to the largest gradient of each tensor, of backward and central differences of a scalar at some elements. */
function gradientError(loss: () => Tensor, parameters: readonly Tensor[]): number {
  const kStep = 1e-5;
  scope(() => loss().backward());
  const value = (): number => scope(() => values(loss())[0] as number);
  return Math.max(
    ...parameters.map((x) => {
      const grad = gradientOf(x);
      const before = values(x);
      const scale = Math.max(...grad.map(Math.abs), 1e-3);
      const places = [...new Set([0, 1, 2, 3].map((i) => (i * 7919) % grad.length))];
      return Math.max(
        ...places.map((at) => {
          const moved = (by: number): number => {
            const changed = Float64Array.from(before);
            changed[at] = (before[at] as number) + by;
            scope(() => noGrad(() => copyInto(x, tensor(changed, { shape: x.shape }))));
            return value();
          };
          const difference = (moved(kStep) - moved(-kStep)) / (2 * kStep);
          moved(0);
          return Math.abs(difference - (grad[at] as number)) / scale;
        }),
      );
    }),
  );
}

for (const config of [
  { type: 'block-adapter', width: 3 },
  { type: 'block-adapter', block: 'convpass', width: 3, dropout: 0 },
  { type: 'block-adapter', block: 'convpass', convolution: '2d', width: 3, dropout: 0 },
  { type: 'block-adapter', block: 'convpass', convolution: 'none', width: 3, dropout: 0 },
  { type: 'block-adapter', block: 'conformer', width: 3, kernelSize: 5 },
  { type: 'block-adapter', placement: 'before', width: 3 },
  { type: 'mixture-of-adapters', width: 3, adapters: 2 },
  { type: 'mixture-of-adapters', mixture: 'soft', width: 3, adapters: 2, slots: 2 },
  { type: 'mixture-of-adapters', mixture: 'soft', width: 3, adapters: 2, normalize: true },
  { type: 'prefix', virtualTokens: 2 },
  { type: 'deep-prompt', virtualTokens: 2 },
] as AdapterConfig[]) {
  test.serial(`gradients in f64: ${JSON.stringify(config)}`, async (t) => {
    const network = await open('ast', 'classification', 'f64');
    const input = inputOf(network, 2, 'f64');
    const set = await attach(network, config, { seed: 2 });
    perturb(set, 0.1);
    const weights = normal([2, 7], { dtype: 'f64', seed: 9 });
    const loss = (): Tensor => {
      const y = network.forward(input, { training: true });
      return sum(mul(y, narrow(weights, 1, 0, y.shape[1] ?? 0)));
    };
    t.true(gradientError(loss, set.parameters()) < 1e-6);
    for (const x of [weights, ...Object.values(input)]) x.dispose();
    set.dispose();
    network.dispose();
  });
}

// ---- soft mixtures

test('soft mixtures: shares sum to 1 over tokens and over slots, padding has none, and one slot without preference gives the mean', (t) => {
  scope(() => {
    const x = normal([2, 5, 6], { dtype: 'f64', seed: 1 });
    const bottleneck = (seed: number): Bottleneck => {
      const affine = (shape: [number, number], stream: number): AffineParameters =>
        new AffineParameters(normal(shape, { dtype: 'f64', seed, stream }), normal([shape[0]], { dtype: 'f64', seed, stream: stream + 1 }));
      return new Bottleneck(affine([3, 6], 0), affine([6, 3], 2), { activation: 'gelu' });
    };
    const pass = { training: false, random: new RandomSource(1) };
    const many = new SoftMixture(normal([6, 2, 3], { dtype: 'f64', seed: 2 }), [bottleneck(3), bottleneck(4)]);
    const lengths = tensor(BigInt64Array.from([5n, 3n]));
    const { dispatch, combine } = many.weights(x, lengths);
    for (const one of [...values(sum(dispatch, 1)), ...values(sum(combine, 2))]) t.true(Math.abs(one - 1) < 1e-12);
    t.true(values(narrow(narrow(dispatch, 0, 1, 1), 1, 3, 2)).every((share) => share === 0));
    const one = new SoftMixture(zeros([6, 1, 1], { dtype: 'f64' }), [bottleneck(3)]);
    const expected = one.experts.at(0).forward(mean(x, 1, { keepDim: true }), pass);
    const got = one.forward(x, pass);
    for (let i = 0; i < 5; i++) t.true(relativeError(values(narrow(got, 1, i, 1)), values(expected)) < 1e-12);
  });
});

// ---- running statistics, checkpointing, the frozen encoder

test.serial(
  'conformer: running statistics move in training alone, once with checkpointing, and the frozen encoder keeps its bits',
  async (t) => {
    const network = await open();
    const input = inputOf(network);
    const before = bits(network);
    const run = async (checkpointing: boolean): Promise<Map<string, Float64Array>> => {
      const set = await attach(network, { type: 'block-adapter', block: 'conformer', width: 3, kernelSize: 5, init: 'trunc_normal_0.02' });
      const state = (): Map<string, Float64Array> => new Map([...set.namedParameters()].map(([name, x]) => [name, values(x)]));
      const start = state();
      answer(network, input);
      for (const [name, x] of state()) t.deepEqual(x, start.get(name), name);
      scope(() => sum(square(network.forward(input, { training: true, checkpointing }))).backward());
      const after = state();
      for (const [name, x] of after) t.is(!sameBits(x, start.get(name) as Float64Array), /running|tracked/.test(name), name);
      for (const [name, x] of set.namedParameters()) if (x.requiresGrad) after.set(`${name}.grad`, gradientOf(x));
      set.dispose();
      return after;
    };
    const [kept, again] = [await run(false), await run(true)];
    for (const [name, x] of kept) t.true(sameBits(x, again.get(name) as Float64Array), name);
    const after = bits(network);
    for (const [name, x] of before) t.true(sameBits(after.get(name) as Float64Array, x), name);
    for (const x of Object.values(input)) x.dispose();
    network.dispose();
  },
);

test.after.always('no tensor is left', (t) => {
  t.is(memory().tensors, 0);
});
