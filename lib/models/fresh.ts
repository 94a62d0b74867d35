import type { Module } from '../nn/module.js';
import { normal, ones, zeros } from '../ops/create.js';
import { hashName } from '../random.js';
import type { DType, Tensor } from '../tensor.js';

export interface FreshOptions {
  /** The whole name of the parameter, from which it has random numbers of its own. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** Deviation of the values of a matrix. */
  readonly deviation: number;
  readonly seed: number;
}

/** What a parameter starts from that no checkpoint holds: biases 0, norms 1, everything else normal, as transformers initialises encoders. */
export function freshValue(module: Module, { name, shape, dtype, deviation, seed }: FreshOptions): Tensor {
  if (name.endsWith('bias')) return zeros(shape, { dtype });
  if (module.role === 'norm') return ones(shape, { dtype });
  return normal(shape, { dtype, std: deviation, seed, stream: hashName(name) });
}
