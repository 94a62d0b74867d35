import { op } from '../native.js';
import { arange } from '../ops/create.js';
import { cast, equal } from '../ops/elementwise.js';
import { expand, unsqueeze } from '../ops/shape.js';
import { scope } from '../scope.js';
import { Tensor } from '../tensor.js';

const solveOp = op('solve');
const solveTriangularOp = op('solveTriangular');

/**
 * y [.., N, K] with a y = b, for square a [.., N, N] and b [.., N, K] of one dtype and the same leading sizes, by LU with partial pivoting. Any floating dtype;
 * bf16 and f16 are widened, y is f32 (f64 for f64). When y is read: an `InvalidArgumentError` that names the row of a zero pivot; a `NonFiniteError` for NaN or
 * infinite values. Not differentiable: throws for tensors on the tape.
 */
export function solve(a: Tensor, b: Tensor): Tensor {
  return new Tensor(solveOp(a.handle, b.handle));
}

export interface SolveTriangularOptions {
  /** Read the upper triangle of a instead of the lower one. Default false. */
  readonly upper?: boolean;
  /** Solve aᵀ y = b. Default false. */
  readonly transpose?: boolean;
}

/**
 * The same for triangular a, of which the other half is not read. With l = cholesky(x), x y = b is solved by
 * `solveTriangular(l, solveTriangular(l, b), { transpose: true })`.
 */
export function solveTriangular(a: Tensor, b: Tensor, options: SolveTriangularOptions = {}): Tensor {
  return new Tensor(solveTriangularOp(a.handle, b.handle, options.upper ?? false, options.transpose ?? false));
}

/** The inverse of square a [.., N, N], by {@link solve}. Where a product with it is wanted, `solve` is faster and more exact. */
export function inverse(a: Tensor): Tensor {
  return scope(() => {
    const n = a.shape.at(-1) ?? 0;
    const index = arange(n, { dtype: 'f32' });
    const identity = cast(equal(unsqueeze(index, 1), unsqueeze(index, 0)), a.dtype);
    return solve(a, expand(identity, [...a.shape.slice(0, -2), n, n]));
  });
}
