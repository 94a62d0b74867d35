import test from 'ava';
import type { Tensor } from 'lorikeet';
import { argmax, max, mean, min, ones, sum, tensor, zeros } from 'lorikeet/ops';
import { battery } from '../helpers/battery.js';
import { cases } from './reduce.cases.js';

battery(test, cases);

const values = async (x: Tensor | undefined): Promise<number[]> =>
  Array.from((await (x as Tensor).data()) as ArrayLike<number | bigint>, Number);

test('keepDim keeps reduced dimensions as 1', (t) => {
  const x = ones([2, 3, 4]);
  t.deepEqual(sum(x, 1, { keepDim: true }).shape, [2, 1, 4]);
  t.deepEqual(sum(x, [0, 2]).shape, [3]);
  t.deepEqual(mean(x).shape, []);
});

test('ties: argmax takes the lowest index, max shares the gradient', async (t) => {
  const x = tensor([2, 5, 5, 1]).setRequiresGrad(true);
  t.is(await argmax(x).item(), 1);
  max(x).backward();
  t.deepEqual(await values(x.grad), [0, 0.5, 0.5, 0]);
});

test('sums of nothing are zero; maxima of nothing are errors', async (t) => {
  t.deepEqual(await values(sum(zeros([0, 3]), 0)), [0, 0, 0]);
  t.is(await sum(zeros([0])).item(), 0);
  t.throws(() => max(zeros([2, 0]), 1), { message: /max: nothing to reduce; got \[2, 0\]/ });
});

test('a long f32 sum stays accurate', async (t) => {
  // 10^6 times 0.1 (which is 0.100000001490116 in f32) is 100000.00149, where numbers lie 0.008 apart; one chain of f32 additions gives 100958.
  t.true(Math.abs((await sum(tensor(new Float32Array(1_000_000).fill(0.1))).item()) - 100000.00149) < 1);
});

test('NaN wins maxima and minima; flags are counted as i64', async (t) => {
  const x = tensor([1, Number.NaN, 3]);
  t.deepEqual([await max(x).item(), await min(x).item()], [Number.NaN, Number.NaN]);
  const count = sum(tensor([1, 0, 1], { dtype: 'bool' }));
  t.is(count.dtype, 'i64');
  t.is(await count.item(), 2);
});

test('errors', (t) => {
  t.throws(() => sum(ones([2]), 3), { message: /sum: dimension out of range; got 3/ });
  t.throws(() => mean(ones([2], { dtype: 'i64' })), { message: /mean: needs a floating tensor; got i64/ });
});
