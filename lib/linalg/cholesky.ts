import { op } from '../native.js';
import { Tensor } from '../tensor.js';

const choleskyOp = op('cholesky');

/**
 * Lower l [.., N, N] with l lᵀ = x for symmetric positive definite x [.., N, N], of which only the lower triangle is read. Any floating dtype; bf16 and f16 are
 * widened, l is f32 (f64 for f64). Leading dimensions are a batch, whose matrices are spread over the threads. When l is read: an `InvalidArgumentError` that
 * names the row of the first pivot that is not positive; a `NonFiniteError` for NaN or infinite values. Not differentiable: throws for a tensor on the tape.
 */
export function cholesky(x: Tensor): Tensor {
  return new Tensor(choleskyOp(x.handle));
}
