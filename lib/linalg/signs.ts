import { abs, cast, greaterEqual, mul, sub } from '../ops/elementwise.js';
import { gather } from '../ops/index-ops.js';
import { argmax } from '../ops/reduce.js';
import type { Tensor } from '../tensor.js';

/** @internal The sign (1 or -1, dtype of x) of the entry of largest magnitude along `dim`, the first of equals; `dim` stays with size 1. */
export function signOfLargest(x: Tensor, dim: number): Tensor {
  const largest = gather(x, dim, argmax(abs(x), dim, { keepDim: true }));
  return sub(mul(cast(greaterEqual(largest, 0), x.dtype), 2), 1);
}
