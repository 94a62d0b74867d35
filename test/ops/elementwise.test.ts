import test from 'ava';
import type { DType, Tensor } from 'lorikeet';
import {
  add,
  cast,
  clamp,
  clone,
  div,
  equal,
  exp,
  floor,
  log,
  logicalNot,
  maximum,
  mul,
  ones,
  relu,
  round,
  sign,
  sub,
  sum,
  tensor,
  where,
} from 'lorikeet/ops';
import { battery } from '../helpers/battery.js';
import { cases } from './elementwise.cases.js';

battery(test, cases);

const values = async (x: Tensor): Promise<number[]> => Array.from((await x.data()) as ArrayLike<number | bigint>, Number);

test('step functions have zero gradients', async (t) => {
  for (const step of [sign, floor, round]) {
    const x = tensor([-1.2, 0.4, 2.7]).setRequiresGrad(true);
    sum(mul(step(x), x)).backward();
    // d(step(x) · x) = step(x) where the step's own gradient is zero
    t.deepEqual(x.grad && (await values(x.grad)), await values(step(x)));
  }
});

test('special values', async (t) => {
  const x = tensor([Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN, 0, -0, 100, -200]);
  t.deepEqual(await values(exp(x)), [Infinity, 0, NaN, 1, 1, Infinity, 0]);
  t.deepEqual((await values(log(x))).slice(0, 5), [Infinity, NaN, NaN, -Infinity, -Infinity]);
  t.deepEqual((await values(relu(x))).slice(0, 3), [Infinity, 0, NaN]);
  t.deepEqual((await values(clamp(x, -1, 1))).slice(0, 3), [1, -1, NaN]);
  t.deepEqual(await values(maximum(tensor([Number.NaN]), tensor([1]))), [NaN]);
});

test('integers add, multiply and divide exactly', async (t) => {
  for (const dtype of ['i64', 'i32'] as const) {
    const a = tensor([7, -7, 2 ** 30], { dtype });
    const b = tensor([2, 2, 1], { dtype });
    t.deepEqual(await values(add(a, b)), [9, -5, 2 ** 30 + 1]);
    t.deepEqual(await values(mul(a, 2)), [14, -14, dtype === 'i32' ? -(2 ** 31) : 2 ** 31]);
    t.deepEqual(await values(div(a, b)), [3, -3, 2 ** 30]);
  }
  t.deepEqual(
    await (await sub(tensor([2 ** 53], { dtype: 'i64' }), tensor([-1], { dtype: 'i64' }))).data(),
    BigInt64Array.from([2n ** 53n + 1n]),
  );
});

test('casts between all dtypes', async (t) => {
  const dtypes: DType[] = ['f64', 'f32', 'bf16', 'f16', 'i64', 'i32', 'u8', 'bool'];
  for (const from of dtypes) {
    for (const to of dtypes) {
      const bool = from === 'bool' || to === 'bool';
      t.deepEqual(await values(cast(tensor([0, 1, 3], { dtype: from }), to)), [0, 1, bool ? 1 : 3], `${from} to ${to}`);
    }
  }
  t.deepEqual(await values(cast(tensor([-1.7, 2.9]), 'i32')), [-1, 2]);
  // 1 + 2^-8 lies halfway between two bf16 numbers and goes to the even one; 1 + 3 · 2^-8 goes up.
  t.deepEqual(await values(cast(tensor([1 + 2 ** -8, 1 + 3 * 2 ** -8]), 'bf16')), [1, 1 + 2 ** -6]);
});

test('an in-place change after a save is an error that names the op', (t) => {
  const x = tensor([1, 2, 3]).setRequiresGrad(true);
  const y = exp(x);
  const z = sum(mul(y, y));
  t.notThrows(() => clone(z));
  t.throws(() => equal(tensor([1]), tensor([1], { dtype: 'f64' })), { message: /equal: operands have different dtypes; got f32 and f64/ });
});

test('errors name the op and both operands', async (t) => {
  t.throws(() => add(ones([2, 3]), ones([2])), { message: /add: shapes do not broadcast; got .*\[2, 3\].*\[2\]/ });
  t.throws(() => mul(ones([2]), ones([2], { dtype: 'f64' })), { message: /mul: operands have different dtypes; got f32 and f64/ });
  t.throws(() => exp(ones([2], { dtype: 'i64' })), { message: /exp: needs a floating tensor; got i64/ });
  t.throws(() => where(ones([2]), ones([2]), ones([2])), { message: /where: the condition must be bool; got f32/ });
  t.deepEqual(await values(logicalNot(tensor([0, 2]))), [1, 0]);
});
