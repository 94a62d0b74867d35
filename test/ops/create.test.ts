import test from 'ava';
import type { DType, Tensor } from 'lorikeet';
import { arange, full, mean, normal, ones, tensor, uniform, zeros } from 'lorikeet/ops';
import { withThreads } from '../helpers/engine.js';
import { sameBits } from '../helpers/values.js';

const values = async (x: Tensor): Promise<number[]> => Array.from((await x.data()) as ArrayLike<number | bigint>, Number);

test('tensors from numbers, nested lists and typed arrays', async (t) => {
  t.deepEqual(
    tensor([
      [1, 2, 3],
      [4, 5, 6],
    ]).shape,
    [2, 3],
  );
  t.deepEqual(tensor([1, 2, 3, 4], { shape: [2, 2] }).shape, [2, 2]);
  t.is(tensor(new Float64Array([1])).dtype, 'f64');
  t.is(tensor(BigInt64Array.of(1n)).dtype, 'i64');
  t.is(tensor([1.5]).dtype, 'f32');
  for (const dtype of ['f64', 'f32', 'bf16', 'f16', 'i64', 'i32', 'u8'] as const) {
    t.deepEqual(await values(tensor([0, 1, 100], { dtype })), [0, 1, 100], dtype);
  }
  t.deepEqual(await values(tensor([true, false], { dtype: 'bool' })), [1, 0]);
  const large = [-1, -100, 2 ** 31, -(2 ** 31) - 1, 2 ** 40 + 7, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 0];
  t.deepEqual(tensor(large, { dtype: 'i64' }).dataSync(), BigInt64Array.from(large, BigInt));
  t.throws(() => tensor([1.5], { dtype: 'i64' }), { instanceOf: RangeError });
  t.deepEqual(tensor([]).shape, [0]);
});

test('zeros, ones, full, arange in every dtype', async (t) => {
  const dtypes: DType[] = ['f64', 'f32', 'bf16', 'f16', 'i64', 'i32', 'u8'];
  for (const dtype of dtypes) {
    t.deepEqual(await values(zeros([2], { dtype })), [0, 0]);
    t.deepEqual(await values(ones([2, 0], { dtype })), []);
    t.deepEqual(await values(full([2], 7, { dtype })), [7, 7]);
    t.deepEqual(await values(arange(3, { dtype, start: 2, step: 3 })), [2, 5, 8]);
  }
  t.is(await full([], 2.5).item(), 2.5);
});

test('random numbers are a function of seed, stream and index', (t) => {
  const make = (count: number) =>
    withThreads(count, () => [uniform([40001], { seed: 5, stream: 2 }), normal([40001], { seed: 5, stream: 2 })].map((x) => x.dataSync()));
  const [one, two] = [make(1), make(2)];
  for (const [i, values] of one.entries()) t.true(sameBits(values, two[i] as ArrayBufferView));
  const other = uniform([40001], { seed: 5, stream: 3 }).dataSync();
  t.false(sameBits(one[0] as ArrayBufferView, other));
  // A prefix does not depend on how many numbers are drawn.
  t.true(sameBits(uniform([10], { seed: 5, stream: 2 }).dataSync(), (one[0] as Float32Array).slice(0, 10)));
});

test('random numbers have the moments asked for', async (t) => {
  const n = 100_000;
  // Standard errors: uniform 2 / sqrt(12 n) = 0.0018, normal 3 / sqrt(n) = 0.0095.
  const u = await values(uniform([n], { low: -1, high: 1, seed: 1 }));
  t.true(Math.abs(u.reduce((a, b) => a + b) / n) < 0.008);
  t.true(Math.min(...u.slice(0, 50000)) >= -1 && Math.max(...u.slice(0, 50000)) < 1);
  t.true(Math.abs((await mean(normal([n], { mean: 4, std: 3, seed: 2 })).item()) - 4) < 0.04);
  const z = await values(normal([n], { seed: 3 }));
  t.true(Math.abs(z.reduce((a, b) => a + b * b, 0) / n - 1) < 0.02);
});

test('errors', (t) => {
  t.throws(() => tensor([[1, 2], [3]]), { message: /tensor:/ });
  t.throws(() => tensor([1, 2, 3], { shape: [2] }), { message: /tensor:/ });
  t.throws(() => zeros([-1]), { message: /negative size; got \[-1\]/ });
  t.throws(() => uniform([2], { dtype: 'i64' }), { message: /uniform:/ });
});
