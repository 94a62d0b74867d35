import { op } from '../native.js';
import type { ReduceName } from '../native-ops.js';
import { Tensor } from '../tensor.js';

const reduceOp = op('reduce');

export interface ReduceOptions {
  /** Keep reduced dimensions as size 1. Default false. */
  readonly keepDim?: boolean;
}

function reduce(name: ReduceName, x: Tensor, dim: number | readonly number[] | undefined, options: ReduceOptions): Tensor {
  const dims = dim === undefined ? [] : typeof dim === 'number' ? [dim] : dim;
  return new Tensor(reduceOp(name, x.handle, dims, options.keepDim ?? false));
}

/** Sum over `dim` (one, several, or all when left out). f32 accumulation in a fixed order; bool and u8 sum to i64. */
export function sum(x: Tensor, dim?: number | readonly number[], options: ReduceOptions = {}): Tensor {
  return reduce('sum', x, dim, options);
}

/** Mean over `dim`, all dimensions when left out. Floats only. */
export function mean(x: Tensor, dim?: number | readonly number[], options: ReduceOptions = {}): Tensor {
  return reduce('mean', x, dim, options);
}

/** Largest element over `dim`; ties share the gradient evenly. */
export function max(x: Tensor, dim?: number | readonly number[], options: ReduceOptions = {}): Tensor {
  return reduce('max', x, dim, options);
}

/** Smallest element over `dim`; ties share the gradient evenly. */
export function min(x: Tensor, dim?: number | readonly number[], options: ReduceOptions = {}): Tensor {
  return reduce('min', x, dim, options);
}

/** Index (i64) of the largest element along `dim`, of the flattened tensor when left out; the lowest on ties. */
export function argmax(x: Tensor, dim?: number, options: ReduceOptions = {}): Tensor {
  return reduce('argmax', x, dim, options);
}

/** Index (i64) of the smallest element along `dim`, of the flattened tensor when left out; the lowest on ties. */
export function argmin(x: Tensor, dim?: number, options: ReduceOptions = {}): Tensor {
  return reduce('argmin', x, dim, options);
}
