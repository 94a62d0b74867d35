import { InvalidArgumentError, ShapeError } from '../errors.js';
import { mul } from '../ops/elementwise.js';
import { contiguous, narrow } from '../ops/shape.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { signOfLargest } from './signs.js';
import { type LowrankFactors, svdLowrank } from './svd-lowrank.js';

export interface RandomizedSvdOptions {
  /** Singular triplets to return, at most min(M, N). */
  readonly rank: number;
  /** Columns of the sketch beyond `rank`. Default 10. */
  readonly oversample?: number;
  /** Power steps, as `niter` of {@link svdLowrank}. Default 2. */
  readonly powerIterations?: number;
  /** Of the sketch. Default: the next draw of this environment. */
  readonly seed?: number | bigint;
}

/**
 * The `rank` leading singular triplets of x [.., M, N] by {@link svdLowrank} with a wider sketch, of which the rest is dropped. In each column of u the entry of
 * largest magnitude (the first of equals) is positive, so that runs can be compared.
 *
 * @example
 * const { u, s, v } = randomizedSvd(weight, { rank: 16, seed: 1 });
 */
export function randomizedSvd(x: Tensor, options: RandomizedSvdOptions): LowrankFactors {
  const { rank, oversample = 10, powerIterations = 2, seed } = options;
  if (x.rank < 2) {
    throw new ShapeError(`randomizedSvd: needs a matrix or a batch of matrices; got [${x.shape.join(', ')}], expected [.., M, N]`);
  }
  const limit = Math.min(...x.shape.slice(-2));
  if (!Number.isInteger(rank) || rank < 1 || rank > limit) {
    throw new InvalidArgumentError(`randomizedSvd: the rank does not fit; got ${rank} for [${x.shape.join(', ')}], expected 1 to ${limit}`);
  }
  if (!Number.isInteger(oversample) || oversample < 0) {
    throw new InvalidArgumentError(`randomizedSvd: oversample is not a whole number; got ${oversample}, expected 0 or more`);
  }
  return scope(() => {
    const wide = svdLowrank(x, { q: rank + oversample, niter: powerIterations, seed });
    const u = narrow(wide.u, -1, 0, rank);
    const signs = signOfLargest(u, -2);
    return { u: mul(u, signs), s: contiguous(narrow(wide.s, -1, 0, rank)), v: mul(narrow(wide.v, -1, 0, rank), signs) };
  });
}
