import { ConfigError, didYouMean } from '../errors.js';
import { arange, full } from '../ops/create.js';
import { add, cast, div, equal, less, mul, sqrt, square, sub, where } from '../ops/elementwise.js';
import { concat } from '../ops/join.js';
import { max, sum } from '../ops/reduce.js';
import { reshape, select, unsqueeze } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';

/** The hidden states of T tokens [B, T, D] and the number of tokens of each row, to [B, D]. */
type Pool = (hidden: Tensor, tokens: Tokens) => Tensor;

/** What pooling knows of the rows. */
interface Tokens {
  /** Number of tokens of each row, [B, 1] or [1, 1]. */
  readonly counts: Tensor;
  /** Place of each token, [1, T]. */
  readonly places: Tensor;
  /** Whether there is a token, bool [B, T, 1] or [1, T, 1]. */
  readonly mask: Tensor;
}

/** Hidden states summed with weights [B, T, 1]; what lies beyond the tokens of a row is zero whatever it holds. */
const weighted = (hidden: Tensor, weights: Tensor, mask: Tensor): Tensor => sum(where(mask, mul(hidden, weights), 0), 1);
const total = (hidden: Tensor, mask: Tensor): Tensor => sum(where(mask, hidden, 0), 1);

/** By the names of sentence-transformers. */
const modes = {
  cls: (hidden) => select(hidden, 1, 0),
  max: (hidden, { mask }) => max(where(mask, hidden, Number.NEGATIVE_INFINITY), 1),
  mean: (hidden, { mask, counts }) => div(total(hidden, mask), counts),
  mean_sqrt_len_tokens: (hidden, { mask, counts }) => div(total(hidden, mask), sqrt(counts)),
  weightedmean: (hidden, { mask, counts, places }) =>
    div(weighted(hidden, unsqueeze(add(places, 1), 2), mask), mul(mul(counts, add(counts, 1)), 0.5)),
  lasttoken: (hidden, { counts, places }) => total(hidden, unsqueeze(equal(places, sub(counts, 1)), 2)),
} as const satisfies Record<string, Pool>;

/** How the hidden states of a row become one vector: the first token, the largest values, the mean, the sum over the root of the length, the mean weighted by place, or the last token. */
export type PoolingMode = keyof typeof modes;

export const kPoolingModes = Object.keys(modes) as readonly PoolingMode[];

/** How an embedding is made of hidden states. */
export interface Pooling {
  /** One or more ways; the results of several are joined. Default `mean`. */
  readonly mode?: PoolingMode | readonly PoolingMode[] | undefined;
  /** Whether the embedding is divided by its length. Default false. */
  readonly normalize?: boolean | undefined;
}

/** The modes of a pooling. Throws `ConfigError` for an unknown one and for none. */
export function modesOf({ mode = 'mean' }: Pooling): PoolingMode[] {
  const list = typeof mode === 'string' ? [mode] : [...mode];
  for (const name of list)
    if (!Object.hasOwn(modes, name))
      throw new ConfigError(
        `pooling: unknown mode "${name}"; expected one of ${kPoolingModes.join(', ')}${didYouMean(name, kPoolingModes)}`,
      );
  if (list.length === 0) throw new ConfigError(`pooling: no mode; expected one of ${kPoolingModes.join(', ')}`);
  return list;
}

/** Added to a squared length, so that a vector of zeros stays one: the square of the shortest length that torch divides by. */
const kShortestSquared = 1e-24;

/** x [.., D] divided by its Euclidean length. */
export function normalized(x: Tensor): Tensor {
  return div(x, sqrt(add(sum(square(x), -1, { keepDim: true }), kShortestSquared)));
}

/**
 * Hidden states [B, T, D] to embeddings [B, D], or [B, M D] for M modes, in f32 at least. `keyLengths` i64 [B]: the number of tokens of each row; absent: all T. What
 * lies beyond the tokens of a row has no influence.
 */
export function pool(hidden: Tensor, keyLengths: Tensor | undefined, pooling: Pooling): Tensor {
  const [batch = 0, time = 0] = hidden.shape;
  const dtype = hidden.dtype === 'f64' ? 'f64' : 'f32';
  const wide = hidden.dtype === dtype ? hidden : cast(hidden, dtype);
  const places = reshape(arange(time, { dtype }), [1, time]);
  const counts = keyLengths === undefined ? full([1, 1], time, { dtype }) : reshape(cast(keyLengths, dtype), [batch, 1]);
  const tokens = { places, counts, mask: unsqueeze(less(places, counts), 2) };
  const pooled = modesOf(pooling).map((mode) => modes[mode](wide, tokens));
  const joined = pooled.length === 1 ? (pooled[0] as Tensor) : concat(pooled, -1);
  return pooling.normalize ? normalized(joined) : joined;
}
