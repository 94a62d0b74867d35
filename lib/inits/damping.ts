import { ConfigError, InvalidArgumentError } from '../errors.js';
import { inverse } from '../linalg/solve.js';
import { arange } from '../ops/create.js';
import { add, cast, equal, mul, sqrt, square, sub } from '../ops/elementwise.js';
import { matmul } from '../ops/linalg.js';
import { sum } from '../ops/reduce.js';
import { unsqueeze } from '../ops/shape.js';
import { noGrad, scope } from '../scope.js';
import type { DType, Tensor } from '../tensor.js';

const kFirst = 0.01;
const kResidual = 0.05;
const kDoublings = 20;

/** A covariance that can be inverted. */
interface Damped {
  /** C + d mean(diag C) I. */
  readonly matrix: Tensor;
  /** d, 0.01 times a power of two. */
  readonly damp: number;
  /** The Frobenius norm of the matrix times its computed inverse, less the identity. */
  readonly residual: number;
}

function identity(n: number, dtype: DType): Tensor {
  const index = arange(n, { dtype: 'f32' });
  return cast(equal(unsqueeze(index, 1), unsqueeze(index, 0)), dtype);
}

/** How far the computed inverse is from one; infinite where there is none. */
async function inverseResidual(matrix: Tensor, one: Tensor): Promise<number> {
  try {
    return await scope(() => noGrad(() => sqrt(sum(square(sub(matmul(matrix, inverse(matrix)), one)))))).item();
  } catch (error) {
    if (error instanceof InvalidArgumentError) return Infinity;
    throw error;
  }
}

/**
 * Adds to the diagonal of a covariance [K, K] until its inverse, computed in the same dtype, is one to 0.05: a share d of the mean of the diagonal, 0.01 doubled as
 * often as needed. The caller owns the matrix. Throws `ConfigError` after 20 doublings.
 */
export function damped(covariance: Tensor, path: string): Promise<Damped> {
  return scope(async () => {
    const n = covariance.shape[0] ?? 0;
    const one = noGrad(() => identity(n, covariance.dtype));
    const mean = noGrad(() => mul(sum(mul(covariance, one)), 1 / n));
    let damp = kFirst;
    for (let doublings = 0; doublings <= kDoublings; doublings++, damp *= 2) {
      const matrix = noGrad(() => scope(() => add(covariance, mul(one, mul(mean, damp)))));
      const residual = await inverseResidual(matrix, one);
      if (residual < kResidual) return { matrix, damp, residual };
      matrix.dispose();
    }
    throw new ConfigError(
      `corda: the covariance of the input of "${path}" cannot be inverted, even with ${damp / 2} of its mean diagonal added; expected more samples`,
    );
  });
}
