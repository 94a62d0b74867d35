import { op } from '../native.js';
import { Tensor } from '../tensor.js';

const softmaxOp = op('softmax');
const logSoftmaxOp = op('logSoftmax');
const logSumExpOp = op('logSumExp');

/** eˣ / Σ eˣ along `dim` (default the last), in f32 (f64 for f64). Floats; x's shape and dtype. Differentiable. */
export function softmax(x: Tensor, dim = -1): Tensor {
  return new Tensor(softmaxOp(x.handle, dim));
}

/** x − log Σ eˣ along `dim` (default the last). As {@link softmax}. */
export function logSoftmax(x: Tensor, dim = -1): Tensor {
  return new Tensor(logSoftmaxOp(x.handle, dim));
}

/** log Σ eˣ along `dim` (default the last), which goes away, or stays as size 1 with `keepDim`. Differentiable. */
export function logSumExp(x: Tensor, dim = -1, options: { readonly keepDim?: boolean } = {}): Tensor {
  return new Tensor(logSumExpOp(x.handle, dim, options.keepDim ?? false));
}
