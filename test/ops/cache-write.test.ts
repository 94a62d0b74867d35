import test from 'ava';
import { type DType, InvalidArgumentError, ShapeError } from 'lorikeet';
import { cacheWrite, narrow, permute, zeros } from 'lorikeet/ops';
import { battery } from '../helpers/battery.js';
import { numbers, random, sameBits, withoutLeaks } from '../helpers/products.js';
import { cases } from './cache-write.cases.js';

battery(test, cases);

test('rows land at their positions, in every dtype, from and into views', (t) => {
  withoutLeaks(t, () => {
    for (const dtype of ['f64', 'f32', 'bf16', 'f16'] as DType[]) {
      const cache = zeros([2, 6, 2, 3], { dtype });
      const x = permute(random([2, 2, 2, 3], dtype), [0, 2, 1, 3]);
      cacheWrite(cache, x, [4, 1]);
      t.true(sameBits(narrow(narrow(cache, 0, 0, 1), 1, 4, 2), narrow(x, 0, 0, 1)), dtype);
      t.true(sameBits(narrow(narrow(cache, 0, 1, 1), 1, 1, 2), narrow(x, 0, 1, 1)), dtype);
      t.is(numbers(cache).filter((value) => value !== 0).length, 24);
      cacheWrite(narrow(cache, 1, 0, 3), x, 0);
      t.true(sameBits(narrow(cache, 1, 0, 2), x), dtype);
    }
    cacheWrite(zeros([2, 4, 1]), zeros([2, 0, 1]), 4);
    cacheWrite(zeros([0, 4, 1]), zeros([0, 2, 1]), 0);
  });
});

test('what does not fit is an error', async (t) => {
  const cache = zeros([2, 4, 1, 3]);
  t.throws(() => cacheWrite(cache, zeros([2, 5, 1, 3]), 0), {
    instanceOf: ShapeError,
    message: /^cacheWrite: shapes do not fit; got cache \[2, 4, 1, 3\] and x \[2, 5, 1, 3\]/,
  });
  t.throws(() => cacheWrite(cache, zeros([2, 1, 1, 3], { dtype: 'bf16' }), 0), {
    instanceOf: InvalidArgumentError,
    message: 'cacheWrite: dtypes differ; got cache f32 and x bf16, cast x first',
  });
  t.throws(() => cacheWrite(cache, zeros([2, 1, 1, 3]), [1]), { message: 'cacheWrite: positions must be i64 [B]; got i64 [1]' });
  t.throws(() => cacheWrite(zeros([2, 4, 1, 3]).setRequiresGrad(true), zeros([2, 1, 1, 3]), 0), {
    message: /^cacheWrite: .*changed in place while recording/,
  });
  cacheWrite(cache, zeros([2, 2, 1, 3]), [2, 3]);
  await t.throwsAsync(cache.data(), { message: /^cacheWrite: a position is out of range; got 3 in row 1, expected 0 to 2/ });
});
