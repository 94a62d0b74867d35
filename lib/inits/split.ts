import { withPlace } from '../errors.js';
import { computed } from '../linalg/computed.js';
import { mul, sqrt } from '../ops/elementwise.js';
import { PackedWeight } from '../ops/linalg.js';
import { contiguous, narrow, unsqueeze } from '../ops/shape.js';
import { noGrad, scope } from '../scope.js';
import { Tensor } from '../tensor.js';
import type { StartLayer } from './init.js';

/** Factors of a matrix [N, K]: u [N, Q], s [Q], vt [Q, K]. */
export interface Factors {
  readonly u: Tensor;
  readonly s: Tensor;
  readonly vt: Tensor;
}

/** The components `start` to `start + rank` as a pair with s B A = u diag(s) vt, the singular values shared evenly: A = sqrt(S / s) vt, B = u sqrt(S / s). */
export function sharedPair({ u, s, vt }: Factors, start: number, rank: number, scale: number): { a: Tensor; b: Tensor } {
  const root = sqrt(mul(narrow(s, 0, start, rank), 1 / scale));
  return {
    a: contiguous(mul(narrow(vt, 0, start, rank), unsqueeze(root, 1))),
    b: contiguous(mul(narrow(u, 1, start, rank), root)),
  };
}

/** Warns of dropout beside a pair that holds a large part of the weight. */
export function warnOfDropout(init: string, layers: readonly StartLayer[]): void {
  const found = layers.find(({ dropout }) => dropout > 0);
  if (found === undefined) return;
  process.emitWarning(
    `${init}: dropout drops parts of the weights themselves in training, so the model no longer starts as its base; got ${found.dropout}, expected 0`,
    'LorikeetWarning',
  );
}

/**
 * The tensors and weights that `work` makes of one layer, once they hold their values and `check` has passed them; all else of it is released, and everything where
 * it fails. An error of the engine names the layer.
 */
export async function onLayer<T extends object>(init: string, path: string, work: () => T, check?: (made: T) => Promise<void>): Promise<T> {
  let made: T | undefined;
  try {
    return await scope(async () => {
      made = noGrad(work);
      await computed(Object.values(made).filter((value) => value instanceof Tensor));
      await check?.(made);
      return made;
    });
  } catch (error) {
    for (const value of Object.values(made ?? {})) if (value instanceof PackedWeight) value.dispose();
    throw withPlace(error, `${init}: "${path}"`);
  }
}
