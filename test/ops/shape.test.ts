import test from 'ava';
import type { Tensor } from 'lorikeet';
import {
  add,
  arange,
  contiguous,
  copyInto,
  expand,
  fill,
  narrow,
  ones,
  permute,
  reshape,
  select,
  squeeze,
  sum,
  transpose,
  unsqueeze,
  zeros,
} from 'lorikeet/ops';
import { battery } from '../helpers/battery.js';
import { cases } from './shape.cases.js';

battery(test, cases);

const values = async (x: Tensor): Promise<number[]> => Array.from((await x.data()) as Float32Array);

test('views share memory with what they show', async (t) => {
  const x = reshape(arange(6), [2, 3]);
  const column = select(x, 1, -1);
  fill(column, 9);
  t.deepEqual(await values(x), [0, 1, 9, 3, 4, 9]);
  copyInto(narrow(x, 0, 0, 1), reshape(arange(3, { start: 10 }), [1, 3]));
  t.deepEqual(await values(x), [10, 11, 12, 3, 4, 9]);
  copyInto(x, ones([3]));
  t.deepEqual(await values(x), [1, 1, 1, 1, 1, 1]);
});

test('squeeze, unsqueeze, select', async (t) => {
  const x = reshape(arange(6), [2, 1, 3]);
  t.deepEqual(squeeze(x, 1).shape, [2, 3]);
  t.deepEqual(unsqueeze(x, -1).shape, [2, 1, 3, 1]);
  t.deepEqual(await values(select(x, 0, 1)), [3, 4, 5]);
  t.deepEqual(await values(contiguous(transpose(squeeze(x, 1)))), [0, 3, 1, 4, 2, 5]);
});

test('gradients of views land in place', async (t) => {
  const x = zeros([2, 3]).setRequiresGrad(true);
  sum(add(select(x, 0, 0), select(transpose(x), 1, 0))).backward();
  t.deepEqual(await values(x.grad as Tensor), [2, 2, 2, 0, 0, 0]);
});

test('an in-place change is refused where a tape would not see it', (t) => {
  const x = ones([2]).setRequiresGrad(true);
  t.throws(() => fill(x, 0), { message: /requires a gradient cannot be changed in place/ });
});

test('errors', (t) => {
  const x = ones([2, 3]);
  t.throws(() => reshape(x, [4]), { message: /reshape: .*\[2, 3\].*\[4\]/ });
  t.throws(() => permute(x, [0, 0]), { message: /permute:/ });
  t.throws(() => narrow(x, 1, 2, 2), { message: /narrow:/ });
  t.throws(() => expand(x, [2, 4]), { message: /expand:/ });
  t.throws(() => squeeze(x, 0), { message: /squeeze: the dimension is not of size 1; got 2/ });
  t.throws(() => transpose(x, 0, 5), { message: /transpose: dimension out of range; got 5/ });
});
