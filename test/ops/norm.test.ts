import test from 'ava';
import { type DType, scope, type Tensor } from 'lorikeet';
import { add, addLayerNorm, addRmsNorm, layerNorm, mul, normal, ones, rmsNorm, tensor } from 'lorikeet/ops';
import { battery } from '../helpers/battery.js';
import { atLevel, machineLevels } from '../helpers/engine.js';
import { sameBits } from '../helpers/values.js';
import { cases } from './norm.cases.js';

battery(test, cases);

test('rmsNorm rounds before the weight, as published models are evaluated', async (t) => {
  // x = [1, 3], mean of squares 5: x / sqrt(5) = 0.447213..., which is 0.447265625 in bf16; times 3 = 1.341796875, in bf16 1.34375.
  const y = rmsNorm(tensor([1, 3], { dtype: 'bf16' }), tensor([3, 1], { dtype: 'bf16' }), 0);
  t.is((await y.data())[0], 1.34375);
});

test('norms name what does not fit', (t) => {
  t.throws(() => rmsNorm(ones([2, 4]), ones([3])), { message: /rmsNorm: the weight does not fit; got x \[2, 4\] and weight \[3\]/ });
  t.throws(() => rmsNorm(ones([2, 4]), ones([4], { dtype: 'f64' })), {
    message: /rmsNorm: the weight must have x's dtype or be f32; got x f32 and weight f64/,
  });
  t.throws(() => layerNorm(ones([2, 4]), ones([4]), ones([5])), { message: /layerNorm: the bias does not fit/ });
  t.throws(() => layerNorm(ones([2], { dtype: 'i64' })), { message: /layerNorm: needs a floating tensor; got i64/ });
});

type Pair = readonly [sum: Tensor, normed: Tensor];

const pairs = {
  rmsNorm: {
    fused: (x: Tensor, addend: Tensor, weight: Tensor): Pair => addRmsNorm(x, addend, weight),
    apart: (x: Tensor, addend: Tensor, weight: Tensor): Pair => {
      const sum = add(x, addend);
      return [sum, rmsNorm(sum, weight)];
    },
  },
  layerNorm: {
    fused: (x: Tensor, addend: Tensor, weight: Tensor, bias: Tensor): Pair => addLayerNorm(x, addend, weight, bias),
    apart: (x: Tensor, addend: Tensor, weight: Tensor, bias: Tensor): Pair => {
      const sum = add(x, addend);
      return [sum, layerNorm(sum, weight, bias)];
    },
  },
};

/** Sum, norm and all gradients as a block takes them: from a function of both, or of one. */
function bitsOf(
  pair: (...inputs: [Tensor, Tensor, Tensor, Tensor]) => Pair,
  dtype: DType,
  from: 'both' | 'sum' | 'norm',
): ArrayBufferView[] {
  return scope(() => {
    const made = [[37, 67], [37, 67], [67], [67]].map((shape, seed) => normal(shape, { dtype, seed }).setRequiresGrad(true));
    const inputs = made as [Tensor, Tensor, Tensor, Tensor];
    const [sum, normed] = pair(...inputs);
    const root = { both: () => mul(sum, normed), sum: () => mul(sum, sum), norm: () => mul(normed, normed) }[from]();
    root.backward(normal([37, 67], { dtype, seed: 9 }));
    return [sum, normed, ...made.flatMap((x) => x.grad ?? [])].map((x) => x.dataSync());
  });
}

for (const [name, { fused, apart }] of Object.entries(pairs)) {
  test(`${name} of a sum has the bits of the two ops at every level`, (t) => {
    for (const level of machineLevels) {
      for (const dtype of ['f64', 'f32', 'bf16', 'f16'] as const) {
        for (const from of ['both', 'sum', 'norm'] as const) {
          const [one, two] = [fused, apart].map((pair) => atLevel(level, () => bitsOf(pair, dtype, from))) as [
            ArrayBufferView[],
            ArrayBufferView[],
          ];
          t.is(one.length, two.length);
          for (const [i, bits] of one.entries()) t.true(sameBits(bits, two[i] as ArrayBufferView), `${level} ${dtype} ${from}: ${i}`);
        }
      }
    }
  });
}

test('the norm of a sum names what cannot be added', (t) => {
  t.throws(() => addRmsNorm(ones([2, 4]), ones([4]), ones([4])), {
    message: 'addRmsNorm: x and the addend must have one shape; got [2, 4] and [4]',
  });
  t.throws(() => addLayerNorm(ones([2, 4]), ones([2, 4], { dtype: 'f64' })), {
    message: 'addLayerNorm: x and the addend must have one dtype; got f32 and f64, cast one of them',
  });
});
