import { arange, zeros } from '../ops/create.js';
import { less, where } from '../ops/elementwise.js';
import { reshape } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';

/** Where x [B, T, ..] holds tokens, of rows with so many, as booleans [B, T, 1]. */
export function tokenMask(x: Tensor, keyLengths: Tensor): Tensor {
  const [batch = 0, time = 0] = x.shape;
  return less(reshape(arange(time, { dtype: 'i64' }), [1, time, 1]), reshape(keyLengths, [batch, 1, 1]));
}

/** x [B, T, C] with zeros in place of padding. */
export function withoutPadding(x: Tensor, keyLengths: Tensor | undefined): Tensor {
  return keyLengths === undefined ? x : where(tokenMask(x, keyLengths), x, zeros([], { dtype: x.dtype }));
}
