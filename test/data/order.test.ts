import { createHash } from 'node:crypto';
import test from 'ava';
import { permutation, philox, RowOrder } from 'lorikeet/data';

test('philox gives the published words', (t) => {
  // Known answers of philox4x32-10 in the Random123 distribution.
  t.deepEqual(philox(0n, 0n, 0n), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
  const ones = 2n ** 64n - 1n;
  t.deepEqual(philox(ones, ones, ones), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
  const digits = philox(0x299f31d0a4093822n, 0x0370734413198a2en, 0x85a308d3243f6a88n);
  t.deepEqual(digits, [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
});

test('a permutation never changes: runs go on with the rows of earlier versions', (t) => {
  t.deepEqual([...permutation(12, 7, 3, 2)], [6, 2, 8, 7, 10, 0, 1, 5, 9, 4, 11, 3]);
  const bytes = new Uint8Array(permutation(10_007, 7, 3, 2).buffer);
  t.is(createHash('sha256').update(bytes).digest('hex'), '9e93ddd7f97c58c8105b8e8ef6b7465dbe07727c6f9732ee68f64f3bc623bb59');
});

test('a permutation holds every row once and depends on seed and epoch', (t) => {
  const order = permutation(1000, 7, 0);
  t.deepEqual(
    [...order].sort((a, b) => a - b),
    Array.from({ length: 1000 }, (_, index) => index),
  );
  t.deepEqual(order, permutation(1000, 7, 0));
  t.notDeepEqual(order, permutation(1000, 7, 1));
  t.notDeepEqual(order, permutation(1000, 8, 0));
});

test('without a seed, step k takes rows (k-1) batch to k batch - 1, wrapping around', (t) => {
  const order = new RowOrder(5, undefined);
  t.deepEqual(
    [order.step(1, 3), order.step(2, 3), order.step(3, 3)],
    [
      [0, 1, 2],
      [3, 4, 0],
      [1, 2, 3],
    ],
  );
});

test('shuffled epochs hold every row once, and any step can be asked for first', (t) => {
  const order = new RowOrder(6, 3);
  const steps = [1, 2, 3, 4].map((step) => order.step(step, 3));
  t.deepEqual([...(steps[0] ?? []), ...(steps[1] ?? [])].sort(), [0, 1, 2, 3, 4, 5]);
  t.deepEqual(new RowOrder(6, 3).step(4, 3), steps[3]);
});
