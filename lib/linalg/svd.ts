import { op } from '../native.js';
import { Tensor } from '../tensor.js';

const svdOp = op('svd');

/** The factors of a reduced singular value decomposition. */
export interface SvdFactors {
  /** [.., M, K], orthonormal columns. */
  readonly u: Tensor;
  /** [.., K], the singular values, largest first. */
  readonly s: Tensor;
  /** [.., K, N], orthonormal rows. */
  readonly vt: Tensor;
}

/**
 * Reduced singular value decomposition of x [.., M, N]: x = u diag(s) vt with K = min(M, N). Any floating dtype; bf16 and f16 are widened, the factors are f32
 * (f64 for f64). Leading dimensions are a batch. The sign of a pair of vectors is LAPACK's. A `NonFiniteError` arises for NaN or infinite values when a factor is read. Not differentiable: throws for a tensor on the tape.
 *
 * @example
 * const { u, s, vt } = svd(normal([64, 8]));
 */
export function svd(x: Tensor): SvdFactors {
  const [u, s, vt] = svdOp(x.handle);
  return { u: new Tensor(u!), s: new Tensor(s!), vt: new Tensor(vt!) };
}
