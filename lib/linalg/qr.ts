import { op } from '../native.js';
import { Tensor } from '../tensor.js';

const qrOp = op('qr');

/** The factors of a reduced QR decomposition. */
export interface QrFactors {
  /** [.., M, K], orthonormal columns. */
  readonly q: Tensor;
  /** [.., K, N], upper triangular. */
  readonly r: Tensor;
}

/**
 * Reduced QR of x [.., M, N]: x = q r with K = min(M, N). Any floating dtype; bf16 and f16 are widened, the factors are f32 (f64 for f64). Leading
 * dimensions are a batch. Signs are those of LAPACK's Householder reflections,
 * so the diagonal of r may be negative. Not differentiable: throws for a tensor on the tape.
 *
 * @example
 * const { q, r } = qr(normal([64, 8]));
 */
export function qr(x: Tensor): QrFactors {
  const [q, r] = qrOp(x.handle);
  return { q: new Tensor(q!), r: new Tensor(r!) };
}
