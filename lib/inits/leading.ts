import { ConfigError } from '../errors.js';
import { svd } from '../linalg/svd.js';
import { svdLowrank } from '../linalg/svd-lowrank.js';
import { narrow, transpose } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';
import { requireWhole } from './require-whole.js';
import type { Factors } from './split.js';

/** How the leading singular triplets of a weight are found. */
export interface SvdFlavour {
  /** Power steps of a randomised decomposition; null (the default) for the exact one. */
  niter: number | null;
  /** Columns of its sketch beyond R. Default 0, the width of PEFT. */
  oversample: number;
}

export const exactSvd: SvdFlavour = { niter: null, oversample: 0 };
/** Within 1e-3 of the optimal rest at a small part of the cost of the exact one: see docs/methods/pissa.md. */
export const fastSvd: SvdFlavour = { niter: 8, oversample: 16 };

/** Throws `ConfigError` for values that name no decomposition. */
export function checkFlavour(init: string, { niter, oversample }: SvdFlavour): void {
  requireWhole(init, 'niter', niter, 0, 'null');
  requireWhole(init, 'oversample', oversample, 0);
  if (niter === null && oversample > 0)
    throw new ConfigError(`${init}: oversample widens a randomised decomposition; got ${oversample} with niter null`);
}

/**
 * Singular triplets of x [N, K], largest first: all of them by the exact decomposition, `rank` and those of the oversampling by a randomised one. `seed` is that of
 * the sketch.
 */
export function leading(x: Tensor, rank: number, { niter, oversample }: SvdFlavour, seed: number): Factors {
  if (niter === null) return svd(x);
  const { u, s, v } = svdLowrank(x, { q: rank + oversample, niter, seed });
  return { u, s, vt: transpose(v) };
}

/** The first `rank` of {@link leading}. */
export function principal(x: Tensor, rank: number, flavour: SvdFlavour, seed: number): Factors {
  const { u, s, vt } = leading(x, rank, flavour, seed);
  return { u: narrow(u, 1, 0, rank), s: narrow(s, 0, 0, rank), vt: narrow(vt, 0, 0, rank) };
}
