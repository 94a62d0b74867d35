import test from 'ava';
import { InvalidArgumentError, ShapeError, type Tensor } from 'lorikeet';
import { embedding, gather, indexSelect, mul, ones, reshape, scatterAdd, sum, tensor, topK, zeros } from 'lorikeet/ops';
import { battery } from '../helpers/battery.js';
import { cases } from './index-ops.cases.js';

battery(test, cases);

const numbers = async (x: Tensor): Promise<number[]> => Array.from((await x.data()) as ArrayLike<number | bigint>, Number);
const ids = (values: number[]): Tensor => tensor(values, { dtype: 'i64' });

test('an id outside the vocabulary is named when the work runs', async (t) => {
  const error = await t.throwsAsync(embedding(ones([5, 2]), ids([0, 5])).data(), { instanceOf: InvalidArgumentError });
  t.regex(error.message, /embedding: id 5 at position 1 is outside the vocabulary; expected 0 to 4/);
  await t.throwsAsync(embedding(ones([5, 2]), ids([-1])).data(), { message: /id -1 at position 0/ });
  await t.throwsAsync(gather(ones([2, 2]), 1, reshape(ids([0, 1, 2, 0]), [2, 2])).data(), {
    message: /gather: index 2 at position 2 is outside the dimension; expected 0 to 1/,
  });
  await t.throwsAsync(indexSelect(ones([2, 2]), 1, ids([2])).data(), { message: /indexSelect: index 2/ });
  await t.throwsAsync(scatterAdd(ones([2]), 0, ids([2]), ones([1])).data(), { message: /scatterAdd: index 2/ });
});

test('a frozen embedding gets no gradient; a trained one sums the uses of each row', async (t) => {
  const weight = ones([4, 2]);
  t.false(embedding(weight, ids([1])).requiresGrad);
  weight.setRequiresGrad(true);
  sum(
    mul(
      embedding(weight, ids([2, 0, 2])),
      tensor([
        [1, 2],
        [3, 4],
        [5, 6],
      ]),
    ),
  ).backward();
  t.deepEqual(await numbers(weight.grad as Tensor), [3, 4, 0, 0, 6, 8, 0, 0]);
});

test('many uses of a row sum in f32, rounded once', async (t) => {
  // 1000 times 1 in bf16: additions rounded one by one would stop at 256.
  const weight = zeros([2, 1], { dtype: 'bf16' }).setRequiresGrad(true);
  sum(embedding(weight, zeros([1000], { dtype: 'i64' }))).backward();
  t.deepEqual(await numbers(weight.grad as Tensor), [1000, 0]);
  t.deepEqual(
    await numbers(scatterAdd(zeros([2], { dtype: 'bf16' }), 0, zeros([1000], { dtype: 'i64' }), ones([1000], { dtype: 'bf16' }))),
    [1000, 0],
  );
});

test('topK puts NaN first, keeps infinities in order and treats zeros of both signs as equal', async (t) => {
  const x = tensor([0, Number.NEGATIVE_INFINITY, Number.NaN, -0, Number.POSITIVE_INFINITY, 1]);
  const { values, indices } = topK(x, 6);
  t.deepEqual(await numbers(indices), [2, 4, 5, 0, 3, 1]);
  t.deepEqual((await numbers(values)).slice(0, 3), [Number.NaN, Number.POSITIVE_INFINITY, 1]);
});

test('topK of a long row agrees with sorting', async (t) => {
  const row = Float32Array.from({ length: 50_000 }, (_, i) => Math.fround(Math.sin(i * 12.9898) * 43758.5453) % 7);
  const order = Array.from(row.keys()).sort((a, b) => (row[b] as number) - (row[a] as number) || a - b);
  t.deepEqual(await numbers(topK(tensor(row), 500).indices), order.slice(0, 500));
});

test('errors', (t) => {
  t.throws(() => embedding(ones([4]), ids([0])), {
    instanceOf: ShapeError,
    message: /embedding: the weight must be \[vocabulary, width\]; got \[4\]/,
  });
  t.throws(() => embedding(ones([4, 2]), ones([1])), { message: /embedding: indices must be i64 or i32; got f32/ });
  t.throws(() => gather(ones([2, 3]), 1, reshape(ids([0]), [1, 1])), {
    message: /gather: the index does not fit; got x \[2, 3\] and index \[1, 1\]/,
  });
  t.throws(() => topK(ones([3]), 4), { message: /topK: k is outside the row; got k 4 and x \[3\], expected 0 to 3/ });
});
