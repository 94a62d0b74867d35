import test from 'ava';
import { permutation, philox, RowOrder } from 'lorikeet/data';

test('philox gives the published words for counter and key zero', (t) => {
  // Known answer of philox4x32-10 in the Random123 distribution.
  t.deepEqual(philox(0n, 0n, 0n), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
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
