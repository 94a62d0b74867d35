import { op } from '../native.js';
import { Tensor } from '../tensor.js';

const symmetricEigenOp = op('symmetricEigen');

/** Eigenvalues and eigenvectors of a symmetric matrix. */
export interface EigenFactors {
  /** [.., N], smallest first. */
  readonly values: Tensor;
  /** [.., N, N], orthonormal columns. */
  readonly vectors: Tensor;
}

/**
 * Eigendecomposition of symmetric x [.., N, N], as `torch.linalg.eigh`: x vectors = vectors diag(values). Only the lower triangle is read. Any floating dtype;
 * bf16 and f16 are widened, the factors are f32 (f64 for f64). Leading dimensions are a batch, whose matrices are spread over the threads. The sign of a vector
 * is LAPACK's. A `NonFiniteError` arises for NaN or infinite values when a factor is read. Not differentiable: throws for a tensor on the tape.
 */
export function symmetricEigen(x: Tensor): EigenFactors {
  const [values, vectors] = symmetricEigenOp(x.handle);
  return { values: new Tensor(values!), vectors: new Tensor(vectors!) };
}
