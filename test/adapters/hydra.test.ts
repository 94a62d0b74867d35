// Hydra beyond what every method promises: what it computes, its gradients, what it is folded into, and its files.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { type AdapterConfig, type AdapterSet, attach, loadAdapter, loadModel } from 'lorikeet';
import { svd } from 'lorikeet/linalg';
import { Embedding, Linear, Module, ModuleList } from 'lorikeet/nn';
import { add, matmul, mul, sub, sum, tensor } from 'lorikeet/ops';
import type { HydraConfig } from '#dist/adapters/hydra-config.js';
import type { HydraLinear } from '#dist/adapters/hydra-linear.js';
import { cast } from '#dist/ops/elementwise.js';
import { PackedWeight } from '#dist/ops/linalg.js';
import { copyInto, fill } from '#dist/ops/shape.js';
import { noGrad, scope } from '#dist/scope.js';
import type { DType, Tensor } from '#dist/tensor.js';
import { golden, loadTiny, logitsOf, relativeError, temporaryFolder } from '../helpers/adapters.js';
import { centralDifferences } from '../helpers/gradient-check.js';
import { numbersOf, type OpCase, outputWeights } from '../helpers/op-case.js';
import { perturb } from '../helpers/perturb.js';
import { noise } from '../helpers/tiny-network.js';

const ids = [3, 17, 42, 5, 8, 80];

class Single extends Module {
  layer: Linear;
  readonly #bare: Linear;

  constructor(inputs: number, outputs: number, dtype: DType = 'f32', bias = true) {
    super();
    this.layer = new Linear(inputs, outputs, { dtype, bias, seed: 3 });
    // The bias is large, so that a merge without its part of the sequential branch is far off.
    if (bias)
      this.layer.assign(
        'bias',
        noGrad(() => mul(noise([outputs], 4, dtype), 5)),
      );
    this.freeze();
    this.#bare = this.layer;
  }

  /** The layer itself, whatever adapters stand in its place. */
  get bare(): Linear {
    return this.#bare;
  }
}

type Options = Partial<HydraConfig>;

async function onSingle(network: Single, options: Options = {}): Promise<{ module: HydraLinear; set: AdapterSet }> {
  const set = await attach(network, { type: 'hydra', targets: ['layer'], ...options } as AdapterConfig, { seed: 5 });
  return { module: set.get('default').placements[0]?.module as HydraLinear, set };
}

/** The largest difference, relative to the largest expected value. */
const largestError = (got: readonly number[], expected: readonly number[]): number =>
  Math.max(...got.map((value, i) => Math.abs(value - (expected[i] as number)))) / Math.max(...expected.map(Math.abs));
const valuesOf = (x: Tensor): number[] => scope(() => [...(x.dataSync() as Float32Array)]);
const weightOf = ({ bare: { weight } }: Single): Tensor => (weight instanceof PackedWeight ? weight.unpack() : weight);
const outputOf = (network: Single, x: Tensor, training = false): number[] =>
  scope(() => noGrad(() => valuesOf(network.layer.forward(x, { training }))));

test.serial('starts as the base, bit for bit, with every start of the down-projections', async (t) => {
  const network = new Single(9, 7);
  const x = noise([5, 9], 1);
  const base = outputOf(network, x);
  const starts = new Set<string>();
  for (const init of ['xavier', 'kaiming', 'normal0.02'] as const) {
    const { module, set } = await onSingle(network, { init, scale: 'learned' });
    t.deepEqual(outputOf(network, x), base);
    starts.add(String(valuesOf(module.hydra_par_A?.weight as Tensor)));
    set.dispose();
  }
  t.is(starts.size, 3);
});

for (const dtype of ['f32', 'f64'] as const) {
  test.serial(`merged it computes the same (${dtype}), and unmerged the layer has its bits back`, async (t) => {
    const shapes: [number, number][] = [
      [9, 7],
      [6, 15],
    ];
    for (const [inputs, outputs] of shapes) {
      for (const options of [{}, { bias: false }, { rankSequential: 0 }, { rankParallel: 0 }, { scale: 'learned' }] as Options[]) {
        const network = new Single(inputs, outputs, dtype);
        const { set } = await onSingle(network, { scale: 1.5, ...options });
        perturb(set);
        const x = noise([20, inputs], 1, dtype);
        const [weight, bias] = [valuesOf(weightOf(network)), valuesOf(network.bare.bias as Tensor)];
        const adapted = outputOf(network, x);
        await set.merge();
        t.true(relativeError(outputOf(network, x), adapted) < (dtype === 'f64' ? 1e-12 : 1e-5), JSON.stringify(options));
        t.notDeepEqual(valuesOf(network.bare.bias as Tensor), bias);
        set.unmerge();
        t.deepEqual(valuesOf(weightOf(network)), weight);
        t.deepEqual(valuesOf(network.bare.bias as Tensor), bias);
      }
    }
  });
}

test.serial('merged beside an adapter that trains the bias of the layer it computes the same, in both orders', async (t) => {
  const network = new Single(9, 7, 'f64');
  const { set } = await onSingle(network, { scale: 1.5 });
  await attach(network, { type: 'lora', targets: ['layer'], bias: 'all' }, { name: 'biases', activate: false });
  await attach(network, { type: 'full' }, { name: 'whole', activate: false });
  const x = noise([20, 9], 1, 'f64');
  const bare = valuesOf(network.bare.bias as Tensor);
  for (const others of ['biases', 'whole']) {
    for (const names of [
      ['default', others],
      [others, 'default'],
    ]) {
      set.activate(names);
      perturb(set);
      const adapted = outputOf(network, x);
      await set.merge();
      t.true(relativeError(outputOf(network, x), adapted) < 1e-12, names.join());
      set.unmerge();
      t.deepEqual(valuesOf(network.bare.bias as Tensor), bare);
    }
  }
});

test.serial('the parallel branch alone is LoRA, bit for bit', async (t) => {
  const network = new Single(9, 7);
  const x = noise([5, 9], 1);
  const { module, set } = await onSingle(network, { rankParallel: 3, rankSequential: 0, bias: false, scale: 2 });
  perturb(set);
  const [a, b] = [valuesOf(module.hydra_par_A?.weight as Tensor), valuesOf(module.hydra_par_B?.weight as Tensor)];
  const own = outputOf(network, x);
  set.dispose();
  const plain = await attach(network, { type: 'lora', rank: 3, alpha: 6, targets: ['layer'] });
  const [loraA, loraB] = plain.parameters() as [Tensor, Tensor];
  scope(() =>
    noGrad(() => {
      copyInto(loraA, tensor(a, { shape: [3, 9] }));
      copyInto(loraB, tensor(b, { shape: [7, 3] }));
    }),
  );
  t.deepEqual(own, outputOf(network, x));
});

test.serial('the sequential branch alone changes the weight by scale * Bs As W', async (t) => {
  const network = new Single(9, 7, 'f64');
  const { module, set } = await onSingle(network, { rankParallel: 0, rankSequential: 2, scale: 3, bias: false });
  perturb(set);
  const before = weightOf(network);
  const ms = noGrad(() => matmul(module.hydra_seq_B?.weight as Tensor, module.hydra_seq_A?.weight as Tensor));
  const expected = noGrad(() => add(before, mul(matmul(ms, before), 3)));
  await set.merge();
  t.true(relativeError(valuesOf(weightOf(network)), valuesOf(expected)) < 1e-12);
});

test.serial('the rank of the change is rp + rs', async (t) => {
  const network = new Single(24, 20, 'f64');
  const { set } = await onSingle(network, { rankParallel: 2, rankSequential: 3 });
  perturb(set);
  const before = weightOf(network);
  await set.merge();
  const values = valuesOf(svd(noGrad(() => sub(weightOf(network), before))).s);
  t.true((values[4] as number) > 1e-3 * (values[0] as number));
  t.true((values[5] as number) < 1e-12 * (values[0] as number));
});

test.serial('gradients of all tensors, the input and the scale are those of central differences', async (t) => {
  const network = new Single(9, 7, 'f64');
  const { module } = await onSingle(network, { rankParallel: 3, rankSequential: 2, scale: 'learned' });
  const slots = ['hydra_par_A', 'hydra_par_B', 'hydra_seq_A', 'hydra_seq_B'] as const;
  const places = slots.flatMap((name) => (['weight', 'bias'] as const).map((end) => [module[name], end] as const));
  const run = (x: Tensor, scale: Tensor, ...values: Tensor[]): Tensor => {
    module.hydra_scale = scale;
    for (const [i, [factor, end]] of places.entries()) (factor as { weight?: Tensor; bias?: Tensor })[end] = values[i] as Tensor;
    return network.layer.forward(x);
  };
  const shapes = places.map(([factor, end]) => (factor as Record<typeof end, Tensor>)[end].shape);
  const inputs = [[5, 9], [1], ...shapes].map((shape, i) => noise(shape, 10 + i, 'f64').setRequiresGrad(true)) as [
    Tensor,
    Tensor,
    ...Tensor[],
  ];
  const expected = centralDifferences({ name: 'hydra', covers: [], inputs: [], run } as unknown as OpCase, inputs);
  const backward = (): void =>
    scope(() => {
      const y = run(...inputs);
      sum(mul(y, tensor(outputWeights(y.shape, 0), { shape: y.shape, dtype: 'f64' }))).backward();
    });
  backward();
  for (const [i, input] of inputs.entries())
    t.true(largestError(numbersOf(input.grad as Tensor), expected[i] as number[]) < 1e-6, `input ${i}`);
  t.is(network.trainableParameters().length, 0);
  // The input gets its part through the sequential branch.
  const x = inputs[0];
  const whole = numbersOf(x.grad as Tensor);
  x.setGrad(undefined);
  const sequentialDown = inputs[2 + 4] as Tensor;
  noGrad(() => void fill(sequentialDown, 0));
  backward();
  t.true(numbersOf(x.grad as Tensor).some((value, i) => Math.abs(value - (whole[i] as number)) > 1e-3));
});

test.serial('dropout acts between the projections, in training alone, and its draws go on from a state', async (t) => {
  const network = new Single(9, 7);
  const { module, set } = await onSingle(network, { dropout: 0.5, rankParallel: 4, rankSequential: 4 });
  perturb(set);
  const x = noise([6, 9], 1);
  const evaluated = outputOf(network, x);
  t.deepEqual(outputOf(network, x), evaluated);
  module.random.draws = 0;
  const [one, two] = [outputOf(network, x, true), outputOf(network, x, true)];
  t.notDeepEqual(one, two);
  t.notDeepEqual(one, evaluated);
  module.random.draws = 1;
  t.deepEqual(outputOf(network, x, true), two);
  // The mean over many masks is the evaluated output.
  const total = new Float64Array(evaluated.length);
  for (let i = 0; i < 4000; i++)
    for (const [k, value] of outputOf(network, x, true).entries()) total[k] = (total[k] as number) + value / 4000;
  t.true(relativeError(total, evaluated) < 0.05);
});

test.serial('beside another adapter both changes add up, and merge so', async (t) => {
  const network = new Single(9, 7, 'f64');
  const x = noise([5, 9], 1, 'f64');
  const base = outputOf(network, x);
  const { set } = await onSingle(network);
  const both = await attach(network, { type: 'lora', targets: ['layer'] }, { name: 'plain' });
  both.activate(['default', 'plain']);
  perturb(both);
  const changes = ['default', 'plain'].map((name) => {
    both.activate(name);
    return outputOf(network, x).map((value, i) => value - (base[i] as number));
  });
  for (const order of [
    ['default', 'plain'],
    ['plain', 'default'],
  ]) {
    both.activate(order);
    const sums = base.map((value, i) => value + (changes[0]?.[i] as number) + (changes[1]?.[i] as number));
    t.true(relativeError(outputOf(network, x), sums) < 1e-12);
    await both.merge();
    t.true(relativeError(outputOf(network, x), sums) < 1e-12);
    both.unmerge();
  }
  t.truthy(set);
});

class Encoder extends Module {
  blocks: ModuleList<Block>;

  constructor() {
    super();
    this.blocks = new ModuleList(Array.from({ length: 12 }, () => new Block()));
  }
}

/** The two layers of a base-size transformer block that Hydra adapts; without weights. */
class Block extends Module {
  proj = new Linear(768, 768, { init: 'none', role: 'attention.output' });
  fc2 = new Linear(3072, 768, { init: 'none', role: 'mlp.down' });
}

test.serial('numbers to train are those of the published settings', async (t) => {
  const count = async (options: Options): Promise<number> => {
    using set = await attach(new Encoder(), { type: 'hydra', ...options });
    return set.parameters().reduce((total, { size }) => total + size, 0);
  };
  t.is(await count({ bias: true }), 239_712);
  t.is(await count({ targets: ['fc2'], rankParallel: 4, rankSequential: 8, bias: false }), 331_776);
  t.is(await count({ targets: ['fc2'], bias: true }), 147_504);
});

for (const bias of [false, true]) {
  test.serial(`as plain LoRA it computes the same ${bias ? 'with' : 'without'} biases`, async (t) => {
    const model = await loadTiny();
    const tuned = await attach(model, { type: 'hydra', rankParallel: 2, rankSequential: 3, scale: 0.5, bias });
    perturb(tuned);
    const adapted = await logitsOf(tuned, ids);
    const folder = join(temporaryFolder(), 'plain');
    // What is saved has the configured strength.
    tuned.setScale('default', 3);
    await tuned.save(folder, { form: 'lora' });
    tuned.dispose();
    const config = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as Record<string, unknown>;
    t.like(config, { peft_type: 'LORA', r: 5, lora_alpha: 5, lora_bias: bias });
    const loaded = await loadAdapter(model, folder);
    t.true(relativeError(await logitsOf(loaded, ids), adapted) < 1e-5);
    loaded.dispose();
    model.dispose();
  });
}

test.serial('on a base of bf16 it is the same to the precision of bf16', async (t) => {
  const network = new Single(16, 12);
  const x = noise([5, 16], 1);
  const { set } = await onSingle(network);
  perturb(set);
  const exact = outputOf(network, x);
  const half = new Linear(16, 12, { dtype: 'bf16', seed: 3 });
  half.assign(
    'weight',
    noGrad(() => cast(weightOf(network), 'bf16')),
  );
  half.assign(
    'bias',
    noGrad(() => cast(network.bare.bias as Tensor, 'bf16')),
  );
  const other = new Single(16, 12);
  other.layer = half;
  other.freeze();
  const { set: second } = await onSingle(other);
  perturb(second);
  const y = scope(() => noGrad(() => numbersOf(cast(other.layer.forward(cast(x, 'bf16')), 'f32'))));
  t.true(relativeError(y, exact) < 0.02);
});

test.serial('wrong options, targets and merges are errors', async (t) => {
  const network = new Single(9, 7);
  const refused: [Options, RegExp][] = [
    [{ rankParallel: 0, rankSequential: 0 }, /there is no branch/],
    [{ rankParallel: -1 }, /rankParallel .*got -1/],
    [{ rankSequential: 1.5 }, /rankSequential .*got 1.5/],
    [{ scale: 'trained' as never }, /scale .*"trained".*"learned"/],
    [{ dropout: 1 }, /dropout .*got 1/],
    [{ init: 'zeros' as never }, /init .*"zeros".*"xavier"/],
    [{ bias: 'none' as never }, /bias .*"none"/],
  ];
  for (const [options, message] of refused) await t.throwsAsync(onSingle(network, options), { code: 'config', message });

  class Words extends Module {
    layer = new Embedding(5, 4);
  }
  await t.throwsAsync(attach(new Words(), { type: 'hydra', targets: ['layer'] }), {
    code: 'config',
    message: /Embedding, expected a linear layer/,
  });

  const { set } = await onSingle(network, { dropout: 0.1 });
  const merging = set;
  network.train();
  await t.throwsAsync(merging.merge(), { code: 'adapter', message: /switch to eval or unset dropout/ });
  network.eval();
  perturb(set);
  await merging.merge();
  await t.throwsAsync(merging.merge(), { code: 'adapter', message: /unmerge first/ });

  const bare = new Single(9, 7, 'f32', false);
  const { set: biased } = await onSingle(bare, { bias: true });
  await t.throwsAsync(biased.merge(), {
    code: 'adapter',
    message: /without a bias of its own/,
  });
});

test.serial('it runs on weights of few bits, and is merged into them only where that is asked for', async (t) => {
  const model = await loadModel(join(golden, 'models/llama-gqa-tied'), { dtype: 'nf4' });
  const base = await logitsOf(model, ids);
  const tuned = await attach(model, { type: 'hydra' });
  t.deepEqual(await logitsOf(tuned, ids), base);
  perturb(tuned);
  const adapted = await logitsOf(tuned, ids);
  await t.throwsAsync(tuned.merge(), { code: 'adapter', message: /is stored as nf4, whose rounding hides the adapter; dequantize: true/ });
  await tuned.merge({ dequantize: true });
  t.true(relativeError(await logitsOf(tuned, ids), adapted) < 1e-5);
  await tuned.unmerge();
  t.deepEqual(await logitsOf(tuned, ids), adapted);
  model.dispose();
});

test.serial('a sequential branch on a fused projection warns', async (t) => {
  class Fused extends Module {
    qkv = new Linear(4, 12);
  }
  const warnings: string[] = [];
  const listen = (warning: Error): void => void warnings.push(warning.message);
  process.on('warning', listen);
  await attach(new Fused(), { type: 'hydra', targets: ['qkv'], rankSequential: 0 });
  await attach(new Fused(), { type: 'hydra', targets: ['qkv'] });
  await new Promise((resolve) => setImmediate(resolve));
  process.off('warning', listen);
  t.is(warnings.filter((message) => /sequential branch mixes queries, keys and values/.test(message)).length, 1);
});
