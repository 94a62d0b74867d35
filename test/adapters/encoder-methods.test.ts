// The methods for encoders, by the identities, counts and refusals of their papers.
import { join } from 'node:path';
import test from 'ava';
import { type AdapterConfig, type AdapterSet, attach, ConfigError, loadAdapter, memory, noGrad, scope, type Tensor } from 'lorikeet';
import { mean, narrow, normal, sum, tensor, zeros } from 'lorikeet/ops';
import type { Target } from '#dist/adapters/adapter.js';
import { blockAdapter } from '#dist/adapters/block-adapter.js';
import { SoftMixture } from '#dist/adapters/mixture-branches.js';
import { AffineParameters, Bottleneck, type Branch } from '#dist/adapters/sublayer-bottleneck.js';
import { readSafetensorsHeader } from '#dist/io/safetensors-files.js';
import type { EncoderInput, EncoderNetwork } from '#dist/models/encoder.js';
import { createEncoder } from '#dist/models/encoders.js';
import type { ForwardContext } from '#dist/nn/index.js';
import { add, mul, square } from '#dist/ops/elementwise.js';
import { PackedWeight } from '#dist/ops/linalg.js';
import { copyInto } from '#dist/ops/shape.js';
import { RandomSource } from '#dist/random.js';
import { relativeError, sameBits, temporaryFolder } from '../helpers/adapters.js';
import { asModel, goldenEncoder, openEncoder, textBatch } from '../helpers/encoders.js';
import { perturb } from '../helpers/perturb.js';

const plain: ForwardContext = { training: false };
const values = (x: Tensor): Float64Array => Float64Array.from(x.dataSync() as ArrayLike<number | bigint>, Number);
const open = async (
  name = 'ast',
  task: 'classification' | 'embedding' = 'classification',
  dtype: 'f32' | 'f64' = 'f32',
): Promise<EncoderNetwork> =>
  (await openEncoder(goldenEncoder(name), task, { dtype, ...(name === 'ast' && { head: { pooling: { mode: 'mean' } } }) })).network;

/** A batch for a golden encoder of sounds or images. */
function inputOf({ shape, modality }: EncoderNetwork, rows = 2, dtype: 'f32' | 'f64' = 'f32'): EncoderInput {
  const x = normal([rows, ...(shape.example ?? [])], { seed: 5, dtype });
  return modality === 'audio' ? { features: x } : { pixels: x };
}

const answer = (network: EncoderNetwork, input: EncoderInput, context = plain): Float64Array =>
  scope(() => values(noGrad(() => network.forward(input, context))));

/** Every weight of a network by path. */
const bits = (network: EncoderNetwork): Map<string, Float64Array> =>
  scope(() => new Map([...network.namedParameters()].map(([name, x]) => [name, values(x instanceof PackedWeight ? x.unpack() : x)])));

const trained = (set: AdapterSet): number => set.table().reduce((total, { parameters }) => total + parameters, 0);

// ---- counts

/** AST of the published size, with norms and biases alone. */
function publishedAst(): EncoderNetwork {
  const config = {
    model_type: 'audio-spectrogram-transformer',
    hidden_size: 768,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    intermediate_size: 3072,
  };
  const network = createEncoder({ ...config, max_length: 500 }, 'classification', { labels: 50, pooling: { mode: 'mean' } });
  for (const [, module] of network.namedModules())
    for (const [name, shape] of Object.entries(module.parameterShapes())) if (shape.length === 1) module.assign(name, zeros(shape));
  return network;
}

const kNorm = 2 * 768;
for (const [config, count] of [
  [{ type: 'block-adapter' }, 12 * (19212 + kNorm) + kNorm],
  [{ type: 'block-adapter', sublayers: 'both' }, 12 * 2 * (19212 + kNorm) + kNorm],
  // The published program makes a norm in every adapter that it does not use.
  [{ type: 'block-adapter', block: 'conformer', reduction: 96 }, 270720 - 12 * kNorm + kNorm],
  [{ type: 'deep-prompt' }, 230400 + kNorm],
  [{ type: 'deep-prompt', deep: false, virtualTokens: 300 }, 230400 + kNorm],
  [{ type: 'prefix', virtualTokens: 12, init: 'uniform' }, 221184],
  [{ type: 'bitfit' }, 102144],
  [{ type: 'shared-lora' }, 221184],
  [{ type: 'mixture-of-adapters', mixture: 'soft' }, 12 * (7 * (768 * 6 * 2 + 768 + 6) + 768 * 7 + kNorm) + kNorm],
] as [AdapterConfig, number][]) {
  test.serial(`numbers to train in the published AST: ${JSON.stringify(config)}`, async (t) => {
    const network = publishedAst();
    const set = await attach(network, config);
    t.is(trained(set), count);
    set.dispose();
    network.dispose();
  });
}

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
      Math.max(
        ...[...set.namedParameters()]
          .filter(([name]) => name.endsWith(end))
          .flatMap(([, x]) => [...values(x.grad as Tensor)].map(Math.abs)),
      );
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
      const grad = values(x.grad as Tensor);
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
      network.forward(input, plain).dispose();
      for (const [name, x] of state()) t.deepEqual(x, start.get(name), name);
      scope(() => sum(square(network.forward(input, { training: true, checkpointing }))).backward());
      const after = state();
      for (const [name, x] of after) t.is(!sameBits(x, start.get(name) as Float64Array), /running|tracked/.test(name), name);
      for (const [name, x] of set.namedParameters()) if (x.requiresGrad) after.set(`${name}.grad`, values(x.grad as Tensor));
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

// ---- every encoder, files

const anywhere = [
  { type: 'block-adapter', sublayers: 'both', width: 3, init: 'trunc_normal_0.02' },
  { type: 'block-adapter', block: 'convpass', placement: 'sequential', width: 3 },
  { type: 'block-adapter', block: 'conformer', width: 3, kernelSize: 5 },
  { type: 'mixture-of-adapters', width: 3 },
  { type: 'mixture-of-adapters', mixture: 'soft', width: 3, slots: 2 },
  { type: 'deep-prompt', virtualTokens: 3 },
  { type: 'deep-prompt', virtualTokens: 3, deep: false },
  { type: 'prefix', virtualTokens: 3 },
  { type: 'bitfit' },
  { type: 'linear-probe', modulesToSave: ['classifier'] },
  { type: 'full' },
] as AdapterConfig[];

for (const name of ['ast', 'vit']) {
  test.serial(
    `${name}: every method changes the answer, can be switched off, and comes back from its file with the same bits`,
    async (t) => {
      const network = await open(name);
      const model = asModel(network, name);
      const input = inputOf(network);
      const base = answer(network, input);
      for (const config of anywhere) {
        const tuned = await attach(model, config, { seed: 3 });
        perturb(tuned, 0.2);
        const changed = answer(network, input);
        const label = JSON.stringify(config);
        t.true(changed.every(Number.isFinite) && relativeError(changed, base) > 1e-3, label);
        tuned.disable();
        t.true(sameBits(answer(network, input), base), label);
        tuned.enable();
        const folder = join(temporaryFolder(), 'adapter');
        await tuned.save(folder);
        tuned.dispose();
        const loaded = await loadAdapter(model, folder);
        t.true(sameBits(answer(network, input), changed), label);
        loaded.dispose();
      }
      t.true(sameBits(answer(network, input), base));
      for (const x of Object.values(input)) x.dispose();
      model.dispose();
    },
  );
}

test.serial('bert: a row has the same answer alone and beside a longer one', async (t) => {
  const network = await open('bert-classification');
  const [short, long] = [
    [2, 7, 9, 3],
    [2, 11, 5, 8, 6, 4, 3],
  ];
  const run = (rows: number[][]): Float64Array =>
    scope(() => {
      const { input, context: own } = textBatch(rows);
      return values(noGrad(() => network.forward(input, own)));
    });
  const base = run([short]);
  for (const config of anywhere) {
    const set = await attach(network, config, { seed: 3 });
    perturb(set, 0.2);
    const alone = run([short]);
    t.true(relativeError(alone, base) > 1e-3, JSON.stringify(config));
    t.true(relativeError(run([short, long]).slice(0, alone.length), alone) < 1e-5, JSON.stringify(config));
    set.dispose();
  }
  network.dispose();
});

test.serial('prompts: where they stand, and what the head reads', async (t) => {
  const network = await open('ast', 'classification', 'f64');
  const { contextLength } = network.shape;
  const seen: number[] = [];
  const read = new Map<string, Float64Array>();
  for (const reading of ['all', 'special', 'prompts', 'patches', 'prompts+patches'] as const) {
    const set = await attach(network, { type: 'deep-prompt', virtualTokens: 3, reading });
    const look = network.module('audio_spectrogram_transformer.layernorm') as unknown as { forward: (x: Tensor) => Tensor };
    const before = look.forward.bind(look);
    look.forward = (x) => {
      seen.push(x.shape[1] ?? 0);
      return before(x);
    };
    const input = inputOf(network, 1, 'f64');
    read.set(reading, answer(network, input));
    look.forward = before;
    for (const x of Object.values(input)) x.dispose();
    set.dispose();
  }
  const patches = contextLength - 2;
  t.deepEqual(seen, [1 + 3 + patches, 1, 3, patches, 3 + patches]);
  t.is(new Set([...read.values()].map((x) => x.join())).size, 5);
  network.dispose();
});

test.serial('one pair of factors for query and key is two with the same values, merged or not', async (t) => {
  const network = await open('ast', 'classification', 'f64');
  const model = asModel(network, 'ast');
  const input = inputOf(network, 2, 'f64');
  const base = answer(network, input);
  const shared = await attach(model, { type: 'shared-lora', rank: 3, alpha: 6, init: 'trunc_normal_0.02' }, { seed: 4 });
  t.is(trained(shared.adapters), 2 * 3 * 2 * 32);
  perturb(shared.adapters, 0.2);
  const changed = answer(network, input);
  t.true(relativeError(changed, base) > 1e-3);
  await shared.merge();
  t.true(relativeError(answer(network, input), changed) < 1e-12);
  await shared.unmerge();
  const [own, plainFolder] = [join(temporaryFolder(), 'own'), join(temporaryFolder(), 'plain')];
  await shared.save(own);
  await shared.save(plainFolder, { form: 'lora' });
  shared.dispose();
  for (const [folder, numbers] of [
    [own, 2 * 3 * 2 * 32],
    [plainFolder, 2 * 2 * 3 * 2 * 32],
  ] as const) {
    const loaded = await loadAdapter(model, folder);
    t.is(trained(loaded.adapters), numbers);
    t.true(relativeError(answer(network, input), changed) < 1e-12);
    loaded.dispose();
  }
  for (const x of Object.values(input)) x.dispose();
  model.dispose();
});

test.serial('counts of conformer stay whole in files of fewer bits', async (t) => {
  const network = await open();
  const model = asModel(network, 'ast');
  const tuned = await attach(model, { type: 'block-adapter', block: 'conformer', width: 3 });
  const folder = join(temporaryFolder(), 'adapter');
  await tuned.save(folder, { dtype: 'bf16' });
  tuned.dispose();
  const { tensors } = readSafetensorsHeader(join(folder, 'adapter_model.safetensors'));
  for (const [name, { dtype }] of tensors) t.is(dtype, name.endsWith('num_batches_tracked') ? 'I64' : 'BF16', name);
  (await loadAdapter(model, folder)).dispose();
  model.dispose();
});

// ---- refusals

test.serial('what cannot be is refused', async (t) => {
  const network = await open();
  const { hiddenSize, contextLength } = network.shape;
  for (const [config, message] of [
    [{ type: 'block-adapter', reduction: hiddenSize + 1 }, /^block-adapter: reduction leaves nothing of a stream of \d+/],
    [{ type: 'block-adapter', width: 0 }, /^block-adapter: width cannot be used; got 0/],
    [{ type: 'block-adapter', sublayers: 'houlsby' }, /^block-adapter: sublayers cannot be used; got "houlsby"/],
    [{ type: 'block-adapter', block: 'lstm' }, /^block-adapter: block cannot be used; got "lstm"/],
    [{ type: 'block-adapter', placement: 'after' }, /^block-adapter: placement cannot be used; got "after"/],
    [{ type: 'block-adapter', residual: 'False' }, /^block-adapter: residual cannot be used; got "False"/],
    [{ type: 'block-adapter', block: 'conformer', init: 'zero' }, /only bottlenecks start so/],
    [{ type: 'mixture-of-adapters', slots: 2 }, /^mixture-of-adapters: a dense mixture has no slots/],
    [{ type: 'mixture-of-adapters', adapters: 0 }, /^mixture-of-adapters: adapters cannot be used; got 0/],
    [{ type: 'deep-prompt', virtualTokens: contextLength }, /^deep-prompt: virtualTokens must be fewer than the tokens of the model/],
    [{ type: 'deep-prompt', reading: 'cls' }, /^deep-prompt: reading cannot be used; got "cls"/],
    // P of the paper counts keys and values: an odd one has no half.
    [{ type: 'prefix', virtualTokens: 25 / 2 }, /^prefix: virtualTokens is out of range; got 12.5/],
    [{ type: 'prompt' }, /^prompt: puts embeddings in front of a language model; got AstNetwork/],
  ] as [AdapterConfig, RegExp][]) {
    await t.throwsAsync(attach(network, config), { instanceOf: ConfigError, message });
  }
  const set = await attach(network, { type: 'deep-prompt' }, { name: 'one' });
  await attach(network, { type: 'deep-prompt', virtualTokens: 4 }, { name: 'two' });
  scope(() => {
    const input = inputOf(network);
    t.throws(() => network.forward(input, { training: false, rows: [['one'], ['two']] }), { message: /different prompts/ });
    set.activate(['one', 'two']);
    t.throws(() => network.forward(input, plain), { message: /prompts of 2 adapters/ });
  });
  set.dispose();
  network.dispose();
});

test.after.always('no tensor is left', (t) => {
  t.is(memory().tensors, 0);
});
