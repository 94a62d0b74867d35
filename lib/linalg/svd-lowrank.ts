import { op } from '../native.js';
import { sub } from '../ops/elementwise.js';
import { nextDraw } from '../random.js';
import { scope } from '../scope.js';
import { Tensor } from '../tensor.js';

const svdLowrankOp = op('svdLowrank');

/** The leading factors of a singular value decomposition. */
export interface LowrankFactors {
  /** [.., M, K], orthonormal columns. */
  readonly u: Tensor;
  /** [.., K], the singular values, largest first. */
  readonly s: Tensor;
  /** [.., N, K], orthonormal columns (not transposed). */
  readonly v: Tensor;
}

export interface SvdLowrankOptions {
  /** Width of the sketch and of the result, K = min(q, M, N). Default 6. */
  readonly q?: number;
  /** Power steps: each brings the result nearer to the exact one, for two more products with x. Default 2. */
  readonly niter?: number;
  /** Of the sketch. Default: the next draw of this environment (see `manualSeed`). */
  readonly seed?: number | bigint | undefined;
  /** Subtracted from x first; broadcasts to its shape. */
  readonly m?: Tensor;
}

/**
 * An approximate leading part of the SVD: x ~ u diag(s) vᵀ for x [.., M, N], as `torch.svd_lowrank`: a normal sketch of width q, `niter` power steps, columns
 * made orthonormal after each half step. Values are those of the exact SVD where the spectrum falls off behind q; on a flat spectrum the last ones are a few
 * percent low. The same seed gives the same bits whatever the number of threads, and each matrix of a batch has the bits it has alone. Any floating dtype; bf16
 * and f16 are read as they are and computed in f32 (f64 for f64). A `NonFiniteError` arises for NaN or infinite values when a factor is read. Not
 * differentiable: throws for a tensor on the tape.
 *
 * Paper: "Finding structure with randomness: Probabilistic algorithms for constructing approximate matrix decompositions".
 *
 * @example
 * const { u, s, v } = svdLowrank(normal([512, 256]), { q: 16, niter: 4, seed: 1 });
 */
export function svdLowrank(x: Tensor, options: SvdLowrankOptions = {}): LowrankFactors {
  const { q = 6, niter = 2, m } = options;
  const { seed, stream } = options.seed === undefined ? nextDraw() : { seed: options.seed, stream: 0 };
  const factors = (matrix: Tensor): LowrankFactors => {
    const [u, s, v] = svdLowrankOp(matrix.handle, q, niter, seed, stream);
    return { u: new Tensor(u!), s: new Tensor(s!), v: new Tensor(v!) };
  };
  return m === undefined ? factors(x) : scope(() => factors(sub(x, m)));
}
