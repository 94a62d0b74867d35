import { logSoftmax, logSumExp, softmax } from 'lorikeet/ops';
import type { Dense, OpCase } from '../helpers/battery.js';

/** Σ e^x over rows of [.., n] or, with `inner`, the middle of [.., n, inner]; f gets an element and the logarithm of its sum. */
function along(x: Dense, n: number, inner: number, f: (value: number, lse: number) => number, first = false): number[] {
  const place = (i: number): number => Math.floor(i / (n * inner)) * inner + (i % inner);
  const sums: number[] = [];
  for (const [i, value] of x.data.entries()) sums[place(i)] = (sums[place(i)] ?? 0) + Math.exp(value);
  return first ? sums.map((sum) => f(0, Math.log(sum))) : x.data.map((value, i) => f(value, Math.log(sums[place(i)] as number)));
}

export const cases: OpCase[] = [1, 5, 33].flatMap((n): OpCase[] => [
  {
    name: `softmax of ${n}`,
    covers: ['softmax'],
    inputs: [{ shape: [3, n] }],
    run: (x) => softmax(x),
    reference: (x) => along(x, n, 1, (value, lse) => Math.exp(value - lse)),
  },
  {
    name: `logSoftmax of ${n} in the middle`,
    covers: ['logSoftmax'],
    inputs: [{ shape: [2, n, 3] }],
    run: (x) => logSoftmax(x, 1),
    reference: (x) => along(x, n, 3, (value, lse) => value - lse),
  },
  {
    name: `logSumExp of ${n}`,
    covers: ['logSumExp'],
    inputs: [{ shape: [3, n] }],
    run: (x) => logSumExp(x, 1),
    reference: (x) => along(x, n, 1, (_, lse) => lse, true),
  },
]);
