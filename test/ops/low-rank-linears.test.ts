import test, { type ExecutionContext } from 'ava';
import { type DType, InvalidArgumentError, profile, scope, type Tensor } from 'lorikeet';
import { concat, type LowRankLayer, lowRankLinear, lowRankLinears, narrow, PackedWeight, packInt8, packWeight, tensor } from 'lorikeet/ops';
import { copyOf, factors } from '../helpers/low-rank.js';
import { atEveryLevel, checkGradients, random, sameBits, withoutLeaks, withThreads } from '../helpers/products.js';

const kInputs = 70;
const factorOf = (dtype: DType): DType => (dtype === 'f64' ? 'f64' : 'f32');

/** Layers of 65, 33 and 8 outputs: one adapter on all rows; none; three on segments, one of them with dropout and one on all rows but for the first. */
function layersOf(dtype: DType, m: number): LowRankLayer[] {
  const factor = factorOf(dtype);
  const [first, second, third] = [65, 33, 8].map((n) => ({ weight: packWeight(random([n, kInputs], dtype)), n })) as [Of, Of, Of];
  const middle = Math.floor(m / 2);
  return [
    { weight: first.weight, adapters: [factors(kInputs, 65, 8, factor)] },
    { weight: second.weight, bias: random([33], dtype), adapters: [] },
    {
      weight: third.weight,
      adapters: [
        factors(kInputs, 8, 4, factor, { bias: random([8], factor) }),
        factors(kInputs, 8, 16, factor, { dropout: 0.3, seed: 4, stream: 1 }),
        factors(kInputs, 8, 5, factor),
      ],
      segments: [
        { start: 0, end: middle, adapters: [0, 2] },
        { start: middle, end: m, adapters: [2, 1] },
      ],
    },
  ];
}
type Of = { weight: PackedWeight; n: number };

const release = (layers: readonly LowRankLayer[]): void => {
  for (const { weight } of layers) if (weight instanceof PackedWeight) weight.dispose();
};

/** Layers whose factors are leaves, and these. */
function trainable(layers: readonly LowRankLayer[]): { own: LowRankLayer[]; leaves: Tensor[] } {
  const leaves: Tensor[] = [];
  const leaf = (x: Tensor): Tensor => {
    const copy = copyOf(x, x.dtype).setRequiresGrad(true);
    leaves.push(copy);
    return copy;
  };
  const own = layers.map((layer) => ({
    ...layer,
    ...(layer.bias && { bias: leaf(layer.bias) }),
    adapters: layer.adapters.map(({ bias, ...rest }) => ({ ...rest, a: leaf(rest.a), b: leaf(rest.b), ...(bias && { bias: leaf(bias) }) })),
  }));
  return { own, leaves };
}

const alone = (x: Tensor, layers: readonly LowRankLayer[]): Tensor[] => layers.map(({ weight, ...rest }) => lowRankLinear(x, weight, rest));

/** Outputs, dx and the gradients of all leaves. */
function run(forward: typeof alone, x: Tensor, dy: Tensor, layers: readonly LowRankLayer[], used = layers.length) {
  const leaf = copyOf(x, x.dtype).setRequiresGrad(true);
  const { own, leaves } = trainable(layers);
  const y = forward(leaf, own);
  const all = concat(y.slice(0, used), 1);
  all.backward(narrow(dy, 1, 0, all.shape[1] ?? 0));
  return { y: y.map((output) => output.detach()), x: leaf.grad as Tensor, leaves: leaves.map(({ grad }) => grad) };
}

test('outputs and gradients have the bits of each layer alone', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of ['f64', 'f32', 'bf16', 'f16'] as const) {
        for (const m of [1, 4, 37]) {
          const layers = layersOf(dtype, m);
          const x = random([m, kInputs], dtype);
          const dy = random([m, 106], dtype);
          const what = `${level} ${dtype}, ${m} rows`;
          const single = run(alone, x, dy, layers);
          for (const threads of [1, 2]) {
            const joint = withThreads(threads, () => run(lowRankLinears, x, dy, layers));
            joint.y.forEach((y, i) => {
              t.true(sameBits(y, single.y[i] as Tensor), `${what}: y of layer ${i}, ${threads} threads`);
            });
            joint.leaves.forEach((gradient, i) => {
              t.true(sameBits(gradient as Tensor, single.leaves[i] as Tensor), `${what}: leaf ${i}, ${threads} threads`);
            });
            t.true(sameBits(joint.x as Tensor, single.x as Tensor), `${what}: dx, ${threads} threads`);
          }
          release(layers);
        }
      }
    }),
  );
});

test('a row of dx has the bits that it has alone', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of ['f64', 'f32', 'bf16'] as const) {
        const all = layersOf(dtype, 30);
        const layers = all.slice(0, 2);
        const x = random([30, kInputs], dtype);
        const dy = random([30, 98], dtype);
        const together = withThreads(2, () => run(lowRankLinears, x, dy, layers));
        for (const row of [0, 13, 29]) {
          const single = run(lowRankLinears, narrow(x, 0, row, 1), narrow(dy, 0, row, 1), layers);
          t.true(sameBits(single.x, narrow(together.x, 0, row, 1)), `${level} ${dtype} row ${row}`);
        }
        release(all);
      }
    }),
  );
});

test('gradients against central differences in f64', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      const [m, k] = [7, 5];
      using packed = packWeight(random([4, k], 'f64'));
      const inputs: Record<string, Tensor> = { x: random([m, k], 'f64'), weight: random([6, k], 'f64'), bias: random([6], 'f64') };
      for (const [name, n, rank] of [
        ['p', 4, 2],
        ['q', 6, 1],
        ['r', 6, 3],
      ] as const) {
        const { a, b } = factors(k, n, rank, 'f64');
        Object.assign(inputs, { [`${name}a`]: a, [`${name}b`]: b });
      }
      const of = (values: Readonly<Record<string, Tensor>>, name: string, extra = {}) => ({
        a: values[`${name}a`] as Tensor,
        b: values[`${name}b`] as Tensor,
        scale: 1.5,
        ...extra,
      });
      const both = (values: Readonly<Record<string, Tensor>>): Tensor =>
        concat(
          lowRankLinears(values.x as Tensor, [
            { weight: packed, adapters: [of(values, 'p')] },
            {
              weight: values.weight as Tensor,
              bias: values.bias as Tensor,
              adapters: [of(values, 'q', { dropout: 0.4, seed: 3 }), of(values, 'r')],
              segments: [
                { start: 0, end: 3, adapters: [0] },
                { start: 3, end: 6, adapters: [0, 1] },
              ],
            },
          ]),
          1,
        );
      checkGradients(t, inputs, both, (values, shape) => tensor(values, { shape, dtype: 'f64' }), level);
    }),
  );
});

test('outputs that nothing uses give no gradient', (t) => {
  withoutLeaks(t, () => {
    const layers = layersOf('f32', 20);
    const x = random([20, kInputs]);
    const dy = random([20, 106]);
    const first = run(lowRankLinears, x, dy, layers, 1);
    const single = run(alone, x, dy, layers, 1);
    t.true(sameBits(first.x as Tensor, single.x as Tensor), 'dx');
    first.leaves.forEach((gradient, i) => {
      const expected = single.leaves[i];
      if (gradient === undefined || expected === undefined) t.is(gradient, expected, `leaf ${i}`);
      else t.true(sameBits(gradient, expected), `leaf ${i}`);
    });
    release(layers);
  });
});

test('only wanted gradients are made', (t) => {
  withoutLeaks(t, () => {
    const layers = layersOf('f32', 20);
    const x = random([20, kInputs]);
    const [first, , third] = layers as [LowRankLayer, LowRankLayer, LowRankLayer];
    const [b] = [first.adapters[0]?.b as Tensor];
    const a = third.adapters[2]?.a as Tensor;
    for (const leaf of [a, b]) leaf.setRequiresGrad(true);
    concat(lowRankLinears(x, layers), 1).backward(random([20, 106]));
    t.is(x.grad, undefined);
    t.deepEqual([b.grad?.shape, a.grad?.shape], [b.shape, a.shape]);
    t.is(first.adapters[0]?.a.grad, undefined);
    release(layers);
  });
});

/** The product ops of a run by name. */
async function productsOf(t: ExecutionContext, x: Tensor, layers: readonly LowRankLayer[]): Promise<number> {
  const { ops, result } = await profile(() => lowRankLinears(x, layers));
  alone(x, layers).forEach((y, i) => {
    t.true(sameBits(y, result[i] as Tensor), `layer ${i}`);
  });
  return ops.filter(({ name }) => name === 'lowRankLinears').length;
}

test.serial('layers that are alike run as one op, others one by one', async (t) => {
  await scope(async () => {
    const x = random([9, 16]);
    const layer = (weight: PackedWeight): LowRankLayer => ({ weight, adapters: [] });
    const [wide, narrower, half] = [packWeight(random([8, 16])), packWeight(random([4, 16])), packWeight(random([8, 16], 'bf16'))];
    const codes = packInt8(wide);
    t.is(await productsOf(t, x, [layer(wide), layer(narrower)]), 1);
    t.is(await productsOf(t, x, [layer(wide), layer(half)]), 2);
    t.is(await productsOf(t, x, [layer(codes), layer(codes)]), 2);
    t.is(await productsOf(t, x, Array(9).fill(layer(narrower))), 9);
    for (const weight of [wide, narrower, half, codes]) weight.dispose();
  });
  t.throws(() => lowRankLinears(random([2, 3]), []), {
    message: 'lowRankLinears: needs at least one layer; got none',
    instanceOf: InvalidArgumentError,
  });
});
