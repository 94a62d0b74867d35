import { contiguous, permute, reshape } from '../../ops/shape.js';
import type { Tensor } from '../../tensor.js';

/** The rows of q or k in the order of a checkpoint, put into interleaved order: in a head of K rows, row s K / 2 + j becomes row 2 j + s. */
export function interleaveRows(x: Tensor, heads: number): Tensor {
  const [rows = 0, ...rest] = x.shape;
  const split = reshape(x, [heads, 2, rows / heads / 2, ...rest]);
  return reshape(contiguous(permute(split, [0, 2, 1, ...rest.map((_, i) => i + 3)])), x.shape);
}
