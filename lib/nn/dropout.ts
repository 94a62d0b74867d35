import { InvalidArgumentError } from '../errors.js';
import { dropout } from '../ops/dropout.js';
import type { Tensor } from '../tensor.js';
import type { ForwardContext } from './context.js';
import { Layer } from './module.js';

/** In training, sets each element to zero with probability `p` and divides the others by 1 - p; otherwise the identity. */
export class Dropout extends Layer {
  readonly p: number;

  constructor(p: number) {
    super();
    if (!(p >= 0 && p < 1)) throw new InvalidArgumentError(`dropout: p must be at least 0 and below 1; got ${p}`);
    this.p = p;
  }

  override forward(x: Tensor, context?: ForwardContext): Tensor {
    return (context?.training ?? this.training) && this.p > 0 ? dropout(x, this.p) : x;
  }
}
