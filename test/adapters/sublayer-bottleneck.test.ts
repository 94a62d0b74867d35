import test from 'ava';
import { type AdapterMethod, attach, attachMethod, type CommonConfig, ConfigError, commonDefaults, memory, type Tensor } from 'lorikeet';
import { add, div, gelu, linear, mean, mul, normal, relu, sqrt, square, sub } from 'lorikeet/ops';
import {
  Bottleneck,
  type BottleneckOptions,
  type BranchSource,
  bottleneckStart,
  SublayerBranches,
  streamWidth,
} from '#dist/adapters/sublayer-bottleneck.js';
import { RandomSource } from '#dist/random.js';
import { noGrad } from '#dist/scope.js';
import { loadTiny, logitsOf, relativeError, sameBits } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';
import { settledTensors } from '../helpers/settled-bytes.js';
import { worstError } from '../helpers/values.js';

const ids = [3, 17, 42, 5, 8, 80];
const kContext = { dtype: 'f64', seed: 1, stream: (_path: string, name: string) => name.length } as const;
const numbers = (x: Tensor): Float64Array => Float64Array.from(x.dataSync() as ArrayLike<number>);
const random = (shape: number[], stream: number): Tensor => normal(shape, { dtype: 'f64', seed: 3, stream });

function bottleneck(options: BottleneckOptions): Bottleneck {
  const { down, up } = bottleneckStart(6, 3, kContext, 'block');
  down.bias = random([3], 1);
  up.weight = random([6, 3], 2);
  up.bias = random([6], 3);
  return new Bottleneck(down, up, options);
}

test('a bottleneck is what its formula says', (t) => {
  const x = random([2, 5, 6], 4);
  const pass = { training: false, random: new RandomSource(1) };
  const plain = bottleneck({ activation: 'relu' });
  const { down, up } = plain;
  t.deepEqual(numbers(plain.forward(x, pass)), numbers(linear(relu(linear(x, down.weight, down.bias)), up.weight, up.bias)));
  const full = bottleneck({ activation: 'gelu', scale: 0.1, normEpsilon: 1e-6, dropout: 0.5 });
  t.deepEqual(
    [...full.namedParameters()].map(([name]) => name),
    ['norm.weight', 'norm.bias', 'down.weight', 'down.bias', 'up.weight', 'up.bias'],
  );
  const centred = sub(x, mean(x, -1, { keepDim: true }));
  const normed = div(centred, sqrt(add(mean(square(centred), -1, { keepDim: true }), 1e-6)));
  const expected = mul(linear(gelu(linear(normed, full.down.weight, full.down.bias)), full.up.weight, full.up.bias), 0.1);
  t.true(worstError(numbers(full.forward(x, pass)), numbers(expected)) < 1e-12);
  t.notDeepEqual(numbers(full.forward(x, { ...pass, training: true })), numbers(full.forward(x, pass)));
});

test('a branch reads what it was told to, and adds to what the sub-layer gives', (t) => {
  const [input, residual, y] = [random([1, 2, 6], 5), random([1, 2, 6], 6), random([1, 2, 6], 7)];
  const reads: Record<BranchSource, Tensor> = { input, residual, output: y, sum: add(residual, y) };
  for (const [source, x] of Object.entries(reads) as [BranchSource, Tensor][]) {
    const branch = bottleneck({ activation: 'silu' });
    const module = new SublayerBranches({ mlp: branch }, source, 0, 'block');
    const call = { input, residual, context: { training: false }, next: () => y };
    const a = branch.forward(x, { training: false, random: module.random });
    t.deepEqual(numbers(module.sublayer({ ...call, point: 'mlp' })), numbers(add(y, a)), source);
    t.is(module.sublayer({ ...call, point: 'attention' }), y);
    module.setScale(0.5);
    t.deepEqual(numbers(module.sublayer({ ...call, point: 'mlp' })), numbers(add(y, mul(a, 0.5))), source);
  }
});

const plainBottleneck: AdapterMethod<'plain-bottleneck', CommonConfig> = {
  name: 'plain-bottleneck',
  prefix: 'adapter_',
  defaults: commonDefaults,
  check: () => {},
  roles: ['block'],
  kinds: ['other'],
  create: (target, _config, context) => {
    const width = streamWidth('plain-bottleneck', target);
    const make = (point: string): Bottleneck => {
      const { down, up } = bottleneckStart(width, 4, context, `${target.path}.${point}`);
      return new Bottleneck(down, up, { activation: 'silu', normEpsilon: 1e-6 });
    };
    return new SublayerBranches({ attention: make('attention'), mlp: make('mlp') }, 'sum', context.seed, target.path);
  },
};

test.serial('around the blocks of a model they start as the identity, train, and come off', async (t) => {
  const model = await loadTiny();
  const base = await logitsOf(model, ids);
  const before = await settledTensors();
  const tuned = await attachMethod(model, plainBottleneck, {});
  t.true(sameBits(await logitsOf(tuned, ids), base));
  perturb(tuned);
  const adapted = noGrad(() => tuned.logits([ids]));
  t.true(relativeError((await adapted.data()) as Float32Array, base) > 1e-3);
  adapted.dispose();
  tuned.dispose();
  t.true(sameBits(await logitsOf(model, ids), base));
  t.is(memory().tensors, before);
  await t.throwsAsync(attachMethod(model, plainBottleneck, { targets: ['mlp'] }), {
    instanceOf: ConfigError,
    message: /plain-bottleneck: "model.layers.0.mlp" is not a block/,
  });
  const both = await attach(model, { type: 'lora' });
  const stacked = await attachMethod(both, plainBottleneck, {}, { name: 'beside' });
  t.true(sameBits(await logitsOf(stacked, ids), base));
  model.dispose();
});
