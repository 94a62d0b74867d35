// Owner maps, and the own-value form against n whole copies.
import test from 'ava';
import { memory, scope, type Tensor } from 'lorikeet';
import { add, div, equal, mul, normal, select, square, sub, sum, tensor, where, zeros } from 'lorikeet/ops';
import { AdamW } from 'lorikeet/optim';
import { symmetricKl } from '#dist/adapters/consistency.js';
import { type ExpertMerge, OwnValues, OwnValuesApart, ownedCount, ownerMap } from '#dist/adapters/expert-values.js';
import { drawExperts, MosaBottleneck } from '#dist/adapters/mosa-branches.js';
import { type AffineSplit, type MaybeSplit, SplitAffine } from '#dist/adapters/split-affine.js';
import { type Affine, AffineParameters, Bottleneck, BottleneckBranch } from '#dist/adapters/sublayer-bottleneck.js';
import { parameter } from '#dist/nn/init.js';
import { clone } from '#dist/ops/elementwise.js';
import { RandomSource } from '#dist/random.js';
import { noGrad } from '#dist/scope.js';
import type { DType } from '#dist/tensor.js';
import { sameBits } from '../helpers/adapters.js';
import { worstError } from '../helpers/values.js';

const kWidth = 9;
const kInner = 5;
const kExperts = 4;
const kOptions = { activation: 'gelu', scale: 0.7 } as const;

const numbers = (x: Tensor): Float64Array => Float64Array.from(x.dataSync() as ArrayLike<number>);
const random = (shape: readonly number[], seed: number, dtype: DType = 'f32'): Tensor => normal(shape, { seed, dtype });
const trained = (values: Tensor): Tensor => parameter(() => noGrad(() => clone(values)));
const splitOf = (options: Partial<AffineSplit> = {}): AffineSplit => ({
  experts: kExperts,
  merge: 'mean',
  biasMode: 'replicate',
  skipInactive: false,
  seed: 3,
  stream: (name) => name.length,
  keepsStart: false,
  ...options,
});

/** Both products of a bottleneck as they start: the second is zero. */
const startOf = (dtype: DType = 'f32'): { down: AffineParameters; up: AffineParameters } =>
  scope(() => ({
    down: new AffineParameters(trained(mul(random([kInner, kWidth], 1, dtype), 0.5)), trained(zeros([kInner], { dtype }))),
    up: new AffineParameters(trained(zeros([kWidth, kInner], { dtype })), trained(zeros([kWidth], { dtype }))),
  }));

type Shared = 'down' | 'up' | 'none';

function splitBottleneck(share: Shared, options: Partial<AffineSplit>, dtype: DType = 'f32'): MosaBottleneck {
  const { down, up } = startOf(dtype);
  const experts = options.experts ?? kExperts;
  return new MosaBottleneck(
    share === 'down' ? down : new SplitAffine(down, splitOf({ ...options, keepsStart: true })),
    share === 'up' ? up : new SplitAffine(up, splitOf(options)),
    experts,
    { width: kWidth, dtype },
    kOptions,
  );
}

test('owner maps give every entry one owner, in shares that differ by one at most', (t) => {
  for (const [size, experts] of [
    [10, 3],
    [11, 4],
    [12, 4],
    [255, 255],
    [1000, 255],
    [7, 1],
  ] as const) {
    const owners = ownerMap([size], experts, { seed: 1, stream: 2 }).dataSync() as Uint8Array;
    const counts = Array.from({ length: experts }, (_, expert) => owners.filter((owner) => owner === expert).length);
    t.is(owners.length, size);
    t.deepEqual(
      counts,
      counts.map((_, expert) => ownedCount(size, experts, expert)),
    );
    t.is(
      counts.reduce((total, count) => total + count, 0),
      size,
    );
    t.true(Math.max(...counts) - Math.min(...counts) <= 1, `${size} of ${experts}`);
  }
});

test('an owner map follows from its seed and stream alone', (t) => {
  const map = (seed: number, stream: number): number[] => [...(ownerMap([3, 4], 4, { seed, stream }).dataSync() as Uint8Array)];
  t.deepEqual(map(1, 2), kFirstMap);
  t.notDeepEqual(map(1, 3), kFirstMap);
  t.notDeepEqual(map(2, 2), kFirstMap);
});
const kFirstMap: readonly number[] = [0, 2, 3, 1, 3, 2, 1, 0, 2, 3, 0, 1];

/** The versions of a product as whole copies, each with the mask of what it owns. */
class Copied {
  readonly copies: readonly { readonly weight: Tensor; readonly bias: Tensor }[];
  readonly masks: readonly { readonly weight: Tensor; readonly bias: Tensor }[];

  constructor({ weight, bias }: AffineParameters, product: SplitAffine, biasMode: 'replicate' | 'split') {
    const ownedBy = (owner: Tensor, index: number): Tensor => equal(owner, index);
    const each = Array.from({ length: kExperts }, (_, index) => index);
    const { weight: values, bias: biases } = product as unknown as { weight: OwnValues; bias: OwnValues };
    this.copies = each.map(() => ({ weight: trained(weight), bias: trained(bias as Tensor) }));
    this.masks = each.map((index) => ({
      weight: ownedBy(values.owner, index),
      bias: biasMode === 'split' ? ownedBy(biases.owner, index) : equal(bias as Tensor, bias as Tensor),
    }));
  }

  get parameters(): Tensor[] {
    return this.copies.flatMap(({ weight, bias }) => [weight, bias]);
  }

  /** Cuts each gradient to what its copy owns; copies that did not run get zeros, or are left alone. */
  maskGradients(skipInactive: boolean): void {
    for (const [index, copy] of this.copies.entries()) {
      for (const name of ['weight', 'bias'] as const) {
        const value = copy[name];
        const grad = value.grad ?? undefined;
        if (grad === undefined && skipInactive) continue;
        value.setGrad(noGrad(() => (grad === undefined ? zeros(value.shape) : where(this.masks[index]?.[name] as Tensor, grad, 0))));
      }
    }
  }
}

class CopiedBranch extends BottleneckBranch {
  readonly #pick: (random: RandomSource) => { down: Affine; up: Affine };

  constructor(pick: (random: RandomSource) => { down: Affine; up: Affine }) {
    super(kWidth, 'f32', kOptions);
    this.#pick = pick;
  }

  protected override products({ random }: { random: RandomSource }): { down: Affine; up: Affine } {
    return this.#pick(random);
  }
}

function train(branch: BottleneckBranch, parameters: readonly Tensor[], masked: () => void = () => {}, steps = 20): void {
  const optimizer = new AdamW([...parameters], { learningRate: 5e-3, weightDecay: 0.01, eps: 1e-6 });
  const source = new RandomSource(11, 'block');
  const x = random([6, kWidth], 5);
  const wanted = random([6, kWidth], 6);
  for (let step = 0; step < steps; step++) {
    scope(() => {
      const [first, second] = [0, 1].map(() => branch.forward(x, { training: true, random: source })) as [Tensor, Tensor];
      add(sum(square(sub(first, wanted))), symmetricKl(first, second)).backward();
      masked();
      optimizer.step();
      optimizer.zeroGrad();
    });
  }
  optimizer.dispose();
}

for (const skipInactive of [false, true]) {
  for (const [share, biasMode] of [
    ['none', 'replicate'],
    ['none', 'split'],
    ['down', 'replicate'],
    ['up', 'split'],
  ] as const) {
    test(`20 steps are those of n copies with masked gradients: share ${share}, biases ${biasMode}${skipInactive ? ', inactive ones skipped' : ''}`, (t) => {
      const ours = splitBottleneck(share, { biasMode, skipInactive });
      // The owner maps are the same whatever holds the values.
      const maps = splitBottleneck('none', { biasMode });
      const { down, up } = startOf();
      const copied = {
        down: share === 'down' ? undefined : new Copied(down, maps.down as SplitAffine, biasMode),
        up: share === 'up' ? undefined : new Copied(up, maps.up as SplitAffine, biasMode),
      };
      const reference = new CopiedBranch((source) => {
        const chosen = drawExperts(source.next(), kExperts);
        return { down: copied.down?.copies[chosen.down] ?? down, up: copied.up?.copies[chosen.up] ?? up };
      });
      train(ours, ours.trainableParameters());
      const whole = [share === 'down' ? down : undefined, share === 'up' ? up : undefined].flatMap(
        (product) => product?.trainableParameters() ?? [],
      );
      train(reference, [...whole, ...(copied.down?.parameters ?? []), ...(copied.up?.parameters ?? [])], () => {
        copied.down?.maskGradients(skipInactive);
        copied.up?.maskGradients(skipInactive);
      });
      for (const side of ['down', 'up'] as const) {
        const product: MaybeSplit = ours[side];
        const versions = copied[side]?.copies ?? [];
        if (!(product instanceof SplitAffine)) {
          t.true(worstError(numbers(product.weight), numbers((side === 'down' ? down : up).weight)) < 1e-6);
          continue;
        }
        for (const name of ['weight', 'bias'] as const) {
          for (const [index, copy] of versions.entries())
            t.true(worstError(numbers(product.expert(index)[name] as Tensor), numbers(copy[name])) < 1e-6, `${side} ${name} ${index}`);
          const mean = div(
            versions.map((copy) => copy[name]).reduce((total, value) => add(total, value)),
            kExperts,
          );
          t.true(worstError(numbers(product.merged()[name] as Tensor), numbers(mean)) < 1e-6, `${side} ${name} merged`);
          t.true(Math.max(...numbers(mean).map(Math.abs)) > 1e-3);
        }
      }
    });
  }
}

test('one expert trains to the bits of the plain bottleneck', (t) => {
  const { down, up } = startOf();
  const plain = new Bottleneck(down, up, kOptions);
  const split = splitBottleneck('none', { experts: 1 });
  train(plain, plain.trainableParameters());
  train(split, split.trainableParameters());
  const pass = { training: false, random: new RandomSource(1) };
  const x = random([4, kWidth], 7);
  t.true(sameBits(numbers(plain.forward(x, pass)), numbers(split.forward(x, pass))));
  t.notDeepEqual(numbers(plain.forward(x, pass)), numbers(zeros([4, kWidth])));
});

test('only entries of the drawn experts get a gradient, and it is that of finite differences', (t) => {
  const branch = splitBottleneck('none', {}, 'f64');
  const x = random([3, kWidth], 8, 'f64');
  const up = (branch.up as SplitAffine).weight as OwnValues;
  const down = (branch.down as SplitAffine).weight as OwnValues;
  noGrad(() => {
    for (const [seed, own] of [up, down].entries()) {
      const values = own.values.dataSync() as Float64Array;
      const moved = random(own.values.shape, 20 + seed, 'f64').dataSync() as Float64Array;
      const both = tensor(
        values.map((value, i) => value + (moved[i] as number)),
        { shape: own.values.shape, dtype: 'f64' },
      );
      (own as { values: Tensor }).values = trained(both);
    }
  });
  const loss = (): Tensor => sum(square(branch.forward(x, { training: true, random: new RandomSource(2, 'block') })));
  const chosen = drawExperts(new RandomSource(2, 'block').next(), kExperts);
  scope(() => loss().backward());
  for (const [own, index] of [
    [up, chosen.up],
    [down, chosen.down],
  ] as const) {
    const owners = own.owner.dataSync() as Uint8Array;
    const gradient = numbers(own.values.grad as Tensor);
    const values = Float64Array.from(own.values.dataSync() as Float64Array);
    const at = (entry: number, by: number): number => {
      const changed = Float64Array.from(values);
      changed[entry] = (changed[entry] as number) + by;
      const before = own.values;
      (own as { values: Tensor }).values = tensor(changed, { shape: before.shape, dtype: 'f64' });
      const value = numbers(noGrad(loss))[0] as number;
      (own as { values: Tensor }).values = before;
      return value;
    };
    let owned = 0;
    for (const [entry, owner] of owners.entries()) {
      if (owner !== index) {
        t.is(gradient[entry], 0);
        continue;
      }
      owned++;
      const difference = (at(entry, 1e-5) - at(entry, -1e-5)) / 2e-5;
      t.true(Math.abs((gradient[entry] as number) - difference) <= 1e-6 * Math.max(1, Math.abs(difference)));
    }
    t.true(owned > 0);
  }
});

for (const Own of [OwnValues, OwnValuesApart]) {
  test(`${Own.name}: the mean is that of all versions, joint and sum are what was learnt`, (t) => {
    const start = random([4, 6], 9, 'f64');
    const learnt = random([4, 6], 10, 'f64');
    const values = new Own(trained(start), { experts: 3, seed: 1, stream: 2, keepsStart: true });
    const owners = numbers(values.owner);
    noGrad(() => {
      if (values instanceof OwnValues) (values as { values: Tensor }).values = trained(learnt);
      else
        for (const [index, part] of [...values.part].entries())
          (part as { values: Tensor }).values = trained(
            tensor(
              numbers(learnt).filter((_value, entry) => owners[entry] === index),
              { dtype: 'f64' },
            ),
          );
    });
    const merged = (merge: ExpertMerge): Float64Array => numbers(values.merged(merge));
    const versions = [0, 1, 2].map((index) => numbers(values.expert(index)));
    for (const [index, version] of versions.entries())
      t.deepEqual(
        version,
        numbers(start).map((first, entry) => (owners[entry] === index ? (numbers(learnt)[entry] as number) : first)),
      );
    const mean = numbers(start).map((_, entry) => versions.reduce((total, version) => total + (version[entry] as number), 0) / 3);
    t.true(worstError(merged('mean'), mean) < 1e-15);
    t.true(worstError(merged('joint'), numbers(div(learnt, 3))) < 1e-15);
    t.deepEqual(merged('sum'), numbers(learnt));
  });
}

test('the mean of the outputs over all draws is the output of the merged product', (t) => {
  const branch = splitBottleneck('down', {});
  train(branch, branch.trainableParameters());
  const x = random([3, kInner], 12);
  const product = branch.up as SplitAffine;
  const { weight, bias } = product.merged();
  const outputs = Array.from({ length: kExperts }, (_, index) => linearOf(x, product.expert(index)));
  const mean = outputs[0]?.map((_, i) => outputs.reduce((total, output) => total + (output[i] as number), 0) / kExperts) as Float64Array;
  t.true(worstError(mean, linearOf(x, { weight, bias } as Affine)) < 1e-6);
});

function linearOf(x: Tensor, { weight, bias }: Affine): Float64Array {
  const rows = Array.from({ length: x.shape[0] as number }, (_, row) => select(x, 0, row));
  return Float64Array.from(rows.flatMap((row) => [...numbers(add(sum(mul(weight, row), 1), bias as Tensor))]));
}

test('experts are drawn evenly, the two independently of each other', (t) => {
  const source = new RandomSource(5, 'block');
  const counts = new Map<string, number>();
  const draws = 3200;
  for (let i = 0; i < draws; i++) {
    const { down, up } = drawExperts(source.next(), kExperts);
    counts.set(`${down} ${up}`, (counts.get(`${down} ${up}`) ?? 0) + 1);
  }
  t.is(counts.size, kExperts * kExperts);
  // Six standard deviations of a count of 200.
  for (const count of counts.values()) t.true(Math.abs(count - draws / 16) < 82, String([...counts]));
});

test('a split product holds one copy, a byte an entry, and releases all of it', (t) => {
  const before = memory().tensors;
  const branch = splitBottleneck('none', {});
  const entries = kWidth * kInner;
  t.deepEqual(
    [...branch.namedParameters()].map(([name, value]) => [name, (value as Tensor).size, value.dtype]),
    [
      ['down.weight.values', entries, 'f32'],
      ['down.weight.owner', entries, 'u8'],
      ['down.weight.start', entries, 'f32'],
      ['down.weight.decay', 1, 'f32'],
      ['down.bias.values', kExperts * kInner, 'f32'],
      ['up.weight.values', entries, 'f32'],
      ['up.weight.owner', entries, 'u8'],
      ['up.bias.values', kExperts * kWidth, 'f32'],
    ],
  );
  branch.dispose();
  t.is(memory().tensors, before);
});
