import { NonFiniteError } from '../errors.js';
import { nonFiniteCount } from '../optim/clip.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';

/** Throws `NonFiniteError` where tensors hold NaN or infinite values; `what` says what they are. */
export async function requireFinite(tensors: readonly Tensor[], what: string): Promise<void> {
  const count = await scope(() => nonFiniteCount(tensors).item());
  if (count === 0) return;
  const size = tensors.reduce((total, tensor) => total + tensor.size, 0);
  throw new NonFiniteError(`${what} is not finite; got ${count} of ${size} elements NaN or infinite, expected none`);
}
