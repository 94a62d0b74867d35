import { op } from './native.js';
import { Tensor } from './tensor.js';

const qrOp = op('qr');
const svdOp = op('svd');

/** The factors of a reduced QR decomposition. */
export interface QrFactors {
  /** [.., M, K], orthonormal columns. */
  readonly q: Tensor;
  /** [.., K, N], upper triangular. */
  readonly r: Tensor;
}

/**
 * Reduced QR of x [.., M, N] (f32 or f64): x = q r with K = min(M, N). Leading dimensions are a batch. Signs are those of LAPACK's Householder reflections,
 * so the diagonal of r may be negative. Not differentiable: throws for a tensor on the tape.
 *
 * @example
 * const { q, r } = qr(normal([64, 8]));
 */
export function qr(x: Tensor): QrFactors {
  const [q, r] = qrOp(x.handle);
  return { q: new Tensor(q!), r: new Tensor(r!) };
}

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
 * Reduced singular value decomposition of x [.., M, N] (f32 or f64): x = u diag(s) vt with K = min(M, N). Leading dimensions are a batch. The sign of a pair
 * of vectors is LAPACK's. A `NonFiniteError` arises for NaN or infinite values when a factor is read. Not differentiable: throws for a tensor on the tape.
 *
 * @example
 * const { u, s, vt } = svd(normal([64, 8]));
 */
export function svd(x: Tensor): SvdFactors {
  const [u, s, vt] = svdOp(x.handle);
  return { u: new Tensor(u!), s: new Tensor(s!), vt: new Tensor(vt!) };
}
