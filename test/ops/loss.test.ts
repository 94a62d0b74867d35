import test from 'ava';
import { InvalidArgumentError, memory, resetPeakMemory, ShapeError, scope, synchronize, type Tensor } from 'lorikeet';
import { crossEntropy, full, linear, logitsCrossEntropy, normal, ones, packWeight, sum, tensor, zeros } from 'lorikeet/ops';
import { battery } from '../helpers/battery.js';
import { settledBytes } from '../helpers/settled-bytes.js';
import { worstError } from '../helpers/values.js';
import { cases } from './loss.cases.js';

battery(test, cases);

const numbers = (x: Tensor | undefined): Float32Array => (x as Tensor).dataSync() as Float32Array;
const ids = (values: number[]): Tensor => tensor(values, { dtype: 'i64' });
const everyNth = (count: number, n: number, vocabulary: number): Tensor =>
  ids(Array.from({ length: count }, (_, i) => (i % n === 0 ? -100 : (i * 7919) % vocabulary)));

test('many chunks agree with the loss of whole logits, frozen and trained', (t) => {
  // 700 rows over chunks of 512.
  const [rows, width, vocabulary] = [700, 16, 300] as const;
  for (const trainHead of [false, true]) {
    const target = everyNth(rows, 5, vocabulary);
    const head = normal([vocabulary, width], { seed: 2 });
    const [one, two] = [1, 2].map(() => normal([rows, width], { seed: 1 }).setRequiresGrad(true)) as [Tensor, Tensor];
    const heads = [head.detach(), head.detach()] as const;
    if (trainHead) for (const x of heads) x.setRequiresGrad(true);
    const fused = crossEntropy(one, heads[0], target);
    const whole = logitsCrossEntropy(linear(two, heads[1]), target);
    fused.backward();
    whole.backward();
    t.true(worstError(numbers(fused), numbers(whole)) < 1e-6);
    // Gradients of a mean over 560 rows are small: compared at their own scale.
    const scaled = (x: Tensor | undefined): Float32Array => numbers(x).map((v) => v * 560);
    t.true(worstError(scaled(one.grad), scaled(two.grad)) < 1e-5);
    if (trainHead) t.true(worstError(scaled(heads[0].grad), scaled(heads[1].grad)) < 1e-4);
  }
});

test('logits are never whole in memory, and a frozen head keeps no gradient of its own', async (t) => {
  const [rows, width, vocabulary] = [2048, 32, 8192] as const;
  using head = packWeight(normal([vocabulary, width], { seed: 3 }));
  const hidden = normal([rows, width], { seed: 4 }).setRequiresGrad(true);
  const target = everyNth(rows, 9, vocabulary);
  const before = await settledBytes();
  resetPeakMemory();
  scope(() => crossEntropy(hidden, head, target).backward());
  await synchronize();
  // All logits would take 64 MiB, their gradients as much again; a chunk of 512 rows takes 16, and 16 more while it is packed for a product.
  t.true(memory().peakBytes - before < 40 * 2 ** 20);
});

test('ignored rows cost nothing and get exact zeros', (t) => {
  const hidden = full([3, 4], Number.NaN).setRequiresGrad(true);
  const losses = crossEntropy(hidden, ones([5, 4]), ids([-100, -100, -100]), { reduction: 'none' });
  sum(losses).backward();
  t.deepEqual([...numbers(losses)], [0, 0, 0]);
  t.true(numbers(hidden.grad).every((v) => v === 0));
  t.is(numbers(crossEntropy(zeros([2, 4]), ones([5, 4]), ids([7, 1]), { ignoreIndex: 7, reduction: 'sum' }))[0], Math.fround(Math.log(5)));
});

test('the loss of a confident row keeps its digits in f32', (t) => {
  // log(1 + 3 e^-10) = 1.361906e-4; near 40, where lse and z lie, f32 numbers are 3.8e-6 apart.
  const loss = numbers(logitsCrossEntropy(tensor([[40, 30, 30, 30]]), ids([0])))[0] as number;
  t.true(Math.abs(loss - 1.361906e-4) < 1.5e-7);
  const bf16 = tensor([[40, 20, 20, 20]], { dtype: 'bf16' });
  t.is(logitsCrossEntropy(bf16, ids([1])).dtype, 'f32');
  t.is(numbers(logitsCrossEntropy(bf16, ids([1])))[0], 20);
});

test('extreme logits', (t) => {
  t.deepEqual([...numbers(logitsCrossEntropy(tensor([[1e30, -1e30, 0]]), ids([0]), { reduction: 'none' }))], [0]);
  t.true(Number.isNaN(numbers(logitsCrossEntropy(tensor([[Number.NaN, 0]]), ids([1])))[0]));
  t.true(Number.isNaN(numbers(crossEntropy(ones([1, 2]), ones([3, 2]), ids([-100])))[0]));
});

test('errors', async (t) => {
  const error = await t.throwsAsync(crossEntropy(ones([2, 4]), ones([5, 4]), ids([0, 5])).data(), { instanceOf: InvalidArgumentError });
  t.regex(error.message, /crossEntropy: target 5 at position 1 is outside the vocabulary; expected 0 to 4, or -100 to leave it out/);
  await t.throwsAsync(logitsCrossEntropy(ones([1, 3]), ids([-1])).data(), { message: /logitsCrossEntropy: target -1 at position 0/ });
  t.throws(() => crossEntropy(ones([2, 4]), ones([5, 3]), ids([0, 1])), {
    instanceOf: ShapeError,
    message: /crossEntropy: the head does not fit; got hidden \[2, 4\] and head \[5, 3\]/,
  });
  t.throws(() => crossEntropy(ones([2, 4]), ones([5, 4]), ids([0])), {
    message: /crossEntropy: targets do not fit; got \[2, 4\] and targets \[1\]/,
  });
  t.throws(() => crossEntropy(ones([2, 4]), ones([5, 4], { dtype: 'f64' }), ids([0, 1])), {
    message: /crossEntropy: dtypes do not fit; got hidden f32 and head f64/,
  });
  t.throws(() => crossEntropy(ones([1, 4]), ones([5, 4]), ids([0]), { bias: ones([4]) }), {
    message: /crossEntropy: the bias does not fit; got \[4\], expected \[5\]/,
  });
  t.throws(() => logitsCrossEntropy(ones([1, 3]), ones([1])), { message: /logitsCrossEntropy: targets must be i64 or i32; got f32/ });
});
