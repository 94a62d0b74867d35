import { ShapeError } from '../errors.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { mul, sigmoid } from './elementwise.js';
import { narrow } from './shape.js';

/** x · sigmoid(1.702 x), an approximation of GELU. Any floating dtype. Differentiable. */
export function quickGelu(x: Tensor): Tensor {
  return scope(() => mul(x, sigmoid(mul(x, 1.702))));
}

/** First half · sigmoid(second half) along `dim`, whose size must be even ("Language Modeling with Gated Convolutional Networks"). Differentiable. */
export function glu(x: Tensor, dim = -1): Tensor {
  const size = x.shape.at(dim) ?? 0;
  if (x.shape.length === 0 || size % 2 !== 0) throw new ShapeError(`glu: dimension ${dim} must be even; got [${x.shape.join(', ')}]`);
  return scope(() => mul(narrow(x, dim, 0, size / 2), sigmoid(narrow(x, dim, size / 2, size / 2))));
}
