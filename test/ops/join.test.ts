import test from 'ava';
import type { Tensor } from 'lorikeet';
import { arange, concat, mul, ones, reshape, split, stack, sum } from 'lorikeet/ops';

// concat and stack go through the battery in shape.cases.ts.

const numbers = async (x: Tensor): Promise<number[]> => Array.from((await x.data()) as Float32Array);

test('split gives views that add up to the whole', async (t) => {
  const x = reshape(arange(10), [2, 5]);
  const parts = split(x, 2, 1);
  t.deepEqual(
    parts.map((part) => part.shape),
    [
      [2, 2],
      [2, 2],
      [2, 1],
    ],
  );
  t.deepEqual(await numbers(parts[1] as Tensor), [2, 3, 7, 8]);
  t.deepEqual(await numbers(concat(parts, 1)), await numbers(x));
  t.deepEqual(
    split(x, [4, 0, 1], -1).map((part) => part.shape),
    [
      [2, 4],
      [2, 0],
      [2, 1],
    ],
  );
});

test('gradients pass through split and concat', async (t) => {
  const x = arange(4).setRequiresGrad(true);
  const [a, b] = split(x, 2) as [Tensor, Tensor];
  sum(mul(concat([b, a, b]), arange(6))).backward();
  // x[0], x[1] stand at places 2, 3; x[2], x[3] at 0, 1 and 4, 5.
  t.deepEqual(await numbers(x.grad as Tensor), [2, 3, 4, 6]);
});

test('errors', (t) => {
  t.throws(() => concat([]), { message: /concat: needs at least one tensor/ });
  t.throws(() => concat([ones([2, 3]), ones([2, 4])]), { message: /concat: shapes do not fit; got \[2, 3\] and \[2, 4\]/ });
  t.throws(() => concat([ones([2]), ones([2], { dtype: 'f64' })]), { message: /concat: tensors differ in dtype or device/ });
  t.throws(() => split(ones([5]), [2, 2]), { message: /split: sizes do not add up; got \[2, 2\] = 4, expected 5/ });
  t.throws(() => split(ones([5]), 0), { message: /split: the size must be a positive whole number; got 0/ });
  t.throws(() => split(ones([5]), 1, 1), { message: /split: dimension out of range; got 1/ });
  t.throws(() => stack([ones([2]), ones([3])]), { message: /concat: shapes do not fit/ });
});
