import { ConfigError, didYouMean } from '../../errors.js';

/** How the changes of several adapters become one. The names are those of PEFT, which has no `linear_exact`. */
export const combinationTypes = [
  'cat',
  'linear_exact',
  'linear',
  'svd',
  'ties',
  'ties_svd',
  'dare_linear',
  'dare_linear_svd',
  'dare_ties',
  'dare_ties_svd',
  'magnitude_prune',
  'magnitude_prune_svd',
] as const;

export type CombinationType = (typeof combinationTypes)[number];

/** One adapter and how much of it: its change of the weights counts `weight` times, which may be negative. */
export interface CombinePart {
  readonly adapter: string;
  readonly weight: number;
}

export interface CombineOptions {
  /**
   * Default `cat`: exactly the weighted sum of the changes, with the sum of the ranks. `svd` is the nearest adapter of rank `rank` to that sum.
   * `linear_exact` is `cat`, or with a `rank` the nearest adapter of that rank. The others work on the two factors apart, as PEFT does, which is only an
   * approximation; with `_svd` they work on the full changes.
   */
  readonly type?: CombinationType;
  /** The share of values to keep, for `ties`, `dare` and `magnitude_prune`: above 0, at most 1. */
  readonly density?: number;
  /** How `ties` finds the sign of a value: by the sum of the adapters (`total`, the default) or by their number (`frequency`). */
  readonly majoritySign?: 'total' | 'frequency';
  /** The rank of a decomposed result. Default: the largest rank on the layer; for `linear_exact` the sum of the ranks. */
  readonly rank?: number;
  /** Seed of the random choice of `dare`. Default 0. */
  readonly seed?: number;
  /** Whether the new adapter becomes the active one, alone. Default true. */
  readonly activate?: boolean;
  readonly signal?: AbortSignal;
}

/** The options with their defaults. */
export interface Combination {
  readonly type: CombinationType;
  /** What happens to the values of each adapter before they are added. */
  readonly prune: 'none' | 'magnitude' | 'random';
  /** Whether values are averaged where adapters agree in sign, or added up. */
  readonly elect: boolean;
  /** The form of the result: factors joined, factors added, or a decomposed sum. */
  readonly form: 'cat' | 'factors' | 'svd';
  readonly density: number;
  readonly majoritySign: 'total' | 'frequency';
  readonly rank: number | undefined;
  readonly seed: number;
}

const shown = (value: unknown): string => (value === undefined ? 'nothing' : (JSON.stringify(value) ?? String(value)));

function formOf(type: CombinationType, rank: number | undefined): Combination['form'] {
  if (type === 'linear_exact') return rank === undefined ? 'cat' : 'svd';
  return type === 'cat' ? 'cat' : type.endsWith('svd') ? 'svd' : 'factors';
}

/** Checks the options. Throws `ConfigError`. */
export function combinationOf(options: CombineOptions): Combination {
  const { type = 'cat', density, majoritySign = 'total', rank, seed = 0 } = options;
  if (!combinationTypes.includes(type)) {
    const hint = typeof type === 'string' ? didYouMean(type, combinationTypes) : '';
    throw new ConfigError(`combine: unknown type; got ${shown(type)}, expected one of ${combinationTypes.join(', ')}${hint}`);
  }
  const prune = type.startsWith('dare') ? 'random' : /^(ties|magnitude)/.test(type) ? 'magnitude' : 'none';
  const form = formOf(type, rank);
  const elect = type.includes('ties');
  if (prune === 'none' && density !== undefined)
    throw new ConfigError(`combine: "${type}" keeps every value; got density ${shown(density)}`);
  if (prune !== 'none' && !(typeof density === 'number' && density > 0 && density <= 1))
    throw new ConfigError(`combine: "${type}" needs a density; got ${shown(density)}, expected a number above 0 and at most 1`);
  if (!elect && options.majoritySign !== undefined)
    throw new ConfigError(`combine: "${type}" elects no signs; got majoritySign ${shown(majoritySign)}`);
  if (majoritySign !== 'total' && majoritySign !== 'frequency')
    throw new ConfigError(`combine: unknown majoritySign; got ${shown(majoritySign)}, expected "total" or "frequency"`);
  if (form !== 'svd' && rank !== undefined)
    throw new ConfigError(
      `combine: the rank of "${type}" follows from its adapters; got rank ${shown(rank)}, expected it with an svd type`,
    );
  if (rank !== undefined && !(Number.isSafeInteger(rank) && rank > 0))
    throw new ConfigError(`combine: rank must be a positive integer; got ${shown(rank)}`);
  if (!Number.isSafeInteger(seed)) throw new ConfigError(`combine: seed must be an integer; got ${shown(seed)}`);
  return { type, prune, elect, form, density: density ?? 1, majoritySign, rank, seed };
}
