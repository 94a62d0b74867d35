import { InvalidArgumentError } from '../errors.js';
import { op } from '../native.js';
import { type Draw, nextDraw } from '../random.js';
import { Tensor } from '../tensor.js';

const dropoutOp = op('dropout');

/**
 * x with each element zeroed with probability p (0 ≤ p < 1) and the others divided by 1 − p. The mask is a function of `draw` (default: the environment's
 * next one, see `manualSeed`) and the element's index: backward makes it again, nothing is kept. p = 0 takes no draw.
 */
export function dropout(x: Tensor, p: number, draw?: Draw): Tensor {
  if (!(p >= 0 && p < 1)) throw new InvalidArgumentError(`dropout: the probability must be at least 0 and below 1; got ${p}`);
  const { seed, stream } = draw ?? (p === 0 ? { seed: 0n, stream: 0n } : nextDraw());
  return new Tensor(dropoutOp(x.handle, p, seed, stream));
}
