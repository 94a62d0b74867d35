import test from 'ava';
import type { Tensor } from 'lorikeet';
import { full, ones, tensor, zeros } from 'lorikeet/ops';
import { clipGradNorm, clipScale, globalNorm, gradientNorm, nonFiniteCount, nonFiniteGradients, SGD } from 'lorikeet/optim';
import { atLevel, machineLevels } from '../helpers/engine.js';
import { worstError } from '../helpers/values.js';
import { flat, golden } from './golden.js';

const number = (x: Tensor): number => Number(x.dataSync()[0]);

test('norms and clipped gradients follow PyTorch, at every level', (t) => {
  for (const level of machineLevels) {
    atLevel(level, () => {
      for (const { limit, gradients, norm, clipped } of golden.clip) {
        const parameters = gradients.map((g, i) => {
          const x = zeros(golden.shapes[i] as number[]).setRequiresGrad(true);
          x.setGrad(tensor(flat(g), { shape: x.shape }));
          return x;
        });
        const expected = clipped.map(flat);
        const scale = number(clipScale(gradientNorm(parameters), limit));
        const got = number(clipGradNorm(parameters, limit));
        t.true(Math.abs(got / Number(norm) - 1) < 1e-6 || got === Number(norm), `${level}: norm ${got}, expected ${norm}`);
        parameters.forEach((x, i) => {
          const size = Math.max(...(expected[i] ?? []).map(Math.abs));
          const result = Array.from(x.grad?.dataSync() as Float32Array, (v) => v / size);
          t.true(
            worstError(
              result,
              (expected[i] ?? []).map((v) => v / size),
            ) < 2e-6,
          );
          const scaled = flat(gradients[i] ?? []).map((v) => (v * scale) / size);
          t.true(worstError(scaled, result) < 2e-6);
        });
      }
    });
  }
});

test('a clip scale inside the step is a clip before it', (t) => {
  const make = (): Tensor => {
    const x = ones([3]).setRequiresGrad(true);
    x.setGrad(tensor([3, 0, 4]));
    return x;
  };
  const [inside, before] = [make(), make()];
  new SGD([inside], { learningRate: 0.5 }).step({ clipScale: clipScale(gradientNorm([inside]), 1) });
  clipGradNorm([before], 1);
  new SGD([before], { learningRate: 0.5 }).step();
  t.deepEqual(inside.dataSync(), before.dataSync());
  // norm 5: gradients become 0.6 and 0.8
  t.true(worstError(inside.dataSync() as Float32Array, [0.7, 1, 0.6]) < 1e-6);
});

test('norms do not overflow before the f32 range ends, and are zero for nothing', (t) => {
  t.true(Math.abs(number(globalNorm([full([4], 1e30), full([5], 1e30)])) / 3e30 - 1) < 1e-6);
  t.is(number(globalNorm([])), 0);
  t.is(globalNorm([ones([2], { dtype: 'f64' })]).dtype, 'f64');
  t.is(globalNorm([ones([2], { dtype: 'bf16' })]).dtype, 'f32');
  t.is(number(gradientNorm([ones([2])])), 0);
});

test('numbers that are not finite are counted in every dtype', (t) => {
  for (const dtype of ['f64', 'f32', 'bf16', 'f16'] as const) {
    const bad = tensor([1, Number.NaN, Number.POSITIVE_INFINITY, -3, Number.NEGATIVE_INFINITY], { dtype });
    const count = nonFiniteCount([bad, ones([20_000], { dtype }), bad]);
    t.is(count.dtype, 'i64');
    t.is(number(count), 6);
  }
  const x = ones([2]).setRequiresGrad(true);
  x.setGrad(tensor([Number.NaN, 1]));
  t.is(number(nonFiniteGradients([x, ones([1])])), 1);
  t.true(Number.isNaN(number(clipScale(gradientNorm([x]), 1))));
});

test('errors', (t) => {
  t.throws(() => clipScale(ones([]), 0), { message: /clipScale: the limit must be above 0; got 0/ });
  t.throws(() => globalNorm([ones([1], { dtype: 'i64' })]), { message: /globalNorm: needs floating tensors; got i64/ });
});
