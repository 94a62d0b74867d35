import { rowParts } from '../nn/quantized.js';
import { add, cast, maximum, mul, sqrt, square } from '../ops/elementwise.js';
import { concat } from '../ops/join.js';
import type { PackedWeight } from '../ops/linalg.js';
import { matmul } from '../ops/linalg.js';
import { sum } from '../ops/reduce.js';
import { transpose } from '../ops/shape.js';
import { noGrad, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';

const kRowsAtOnce = 512;

/** The sum of squares of each row of a matrix [N, K] of any float dtype, as f64 [N]. */
export function squaredRowNorms(weight: Tensor | PackedWeight): Tensor {
  return scope(() =>
    noGrad(() => {
      const parts: Tensor[] = [];
      for (const rows of rowParts(weight, kRowsAtOnce)) parts.push(scope(() => sum(square(cast(rows(), 'f64')), 1)));
      return parts.length === 1 && parts[0] !== undefined ? parts[0] : concat(parts, 0);
    }),
  );
}

/** The sum of squares of each column of a matrix [N, K], as f64 [K]. */
export function squaredColumnNorms(weight: Tensor | PackedWeight): Tensor {
  return scope(() =>
    noGrad(() => {
      let total: Tensor | undefined;
      for (const rows of rowParts(weight, kRowsAtOnce)) {
        const part = scope(() => sum(square(cast(rows(), 'f64')), 0));
        total = total === undefined ? part : add(total, part);
      }
      return total as Tensor;
    }),
  );
}

/**
 * The row norms of V = W + s B A [N, K] without forming V: |V_j|² = |W_j|² + 2 s B_j·(W Aᵀ)_j + s² B_j (A Aᵀ) B_jᵀ, the three terms summed in f64.
 * `squared` is |W_j|² [N], `product` is A Wᵀ transposed, [N, R]. Returns [N] in the dtype of B; not recorded.
 */
export function shiftedNorms(squared: Tensor, product: Tensor, a: Tensor, b: Tensor, scale: number): Tensor {
  return scope(() =>
    noGrad(() => {
      const wide = cast(b, 'f64');
      const wideA = cast(a, 'f64');
      const cross = sum(mul(wide, cast(product, 'f64')), 1);
      const gram = matmul(wideA, transpose(wideA));
      const quadratic = sum(mul(matmul(wide, gram), wide), 1);
      const total = add(add(squared, mul(cross, 2 * scale)), mul(quadratic, scale * scale));
      return cast(sqrt(maximum(total, 1e-24)), b.dtype);
    }),
  );
}
