import { uniform } from '../ops/create.js';
import type { DType, Tensor } from '../tensor.js';
import type { CreateContext } from './adapter.js';

/** What starting values depend on. */
export type StartContext = Pick<CreateContext, 'dtype' | 'seed' | 'stream'>;

/** Options of random values on the sequence that belongs to the tensor `name` at `path`. */
export const randomOf = (
  { dtype, seed, stream }: StartContext,
  path: string,
  name: string,
): { dtype: DType; seed: number; stream: number } => ({
  dtype,
  seed,
  stream: stream(path, name),
});

/** Values uniform in [-bound, bound) on that sequence; the running scope owns them. */
export const startUniform = (context: StartContext, path: string, name: string, shape: readonly number[], bound: number): Tensor =>
  uniform(shape, { ...randomOf(context, path, name), low: -bound, high: bound });
