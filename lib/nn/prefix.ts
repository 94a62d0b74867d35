import { InvalidArgumentError } from '../errors.js';
import { zeros } from '../ops/create.js';
import { cast } from '../ops/elementwise.js';
import { concat } from '../ops/join.js';
import { expand, narrow } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';

/** Keys and values that stand in front of those of a layer's tokens: both [1, P, G, K], or [B, P, G, K] where rows have their own. */
export interface KeyValuePrefix {
  readonly keys: Tensor;
  readonly values: Tensor;
}

/** The prefix of each row, [1, P, G, K] with a P of its own; undefined where a row has none. */
export type RowPrefixes = readonly (KeyValuePrefix | undefined)[];

/** One prefix for all rows, or one a row. */
export type AttentionPrefix = KeyValuePrefix | RowPrefixes;

/** Keys and values of a pass with a prefix in front. */
export interface Prefixed {
  readonly k: Tensor;
  readonly v: Tensor;
  /** How many keys of each row are the prefix: one number where all have the same. */
  readonly lengths: number | readonly number[];
}

const isByRow = (prefix: AttentionPrefix): prefix is RowPrefixes => Array.isArray(prefix);

/** P of a prefix; 0 where there is none. */
export const prefixLength = (prefix: KeyValuePrefix | undefined): number => prefix?.keys.shape[1] ?? 0;

/** Prefixes one after the other in front of the same rows; undefined where nothing is given. */
export function joinPrefixes(prefixes: readonly (AttentionPrefix | undefined)[], batch: number): AttentionPrefix | undefined {
  const given = prefixes.filter((prefix) => prefix !== undefined);
  if (given.length <= 1) return given[0];
  if (given.every((prefix) => !isByRow(prefix))) return inOrder(given as KeyValuePrefix[]);
  return Array.from({ length: batch }, (_, row) => {
    const own = given.flatMap((prefix) => rowOf(prefix, row) ?? []);
    return own.length <= 1 ? own[0] : inOrder(own);
  });
}

function inOrder(prefixes: readonly KeyValuePrefix[]): KeyValuePrefix {
  const batch = Math.max(...prefixes.map(({ keys }) => keys.shape[0] ?? 1));
  const join = (parts: readonly Tensor[]): Tensor =>
    concat(
      parts.map((part) => expand(part, [batch, ...part.shape.slice(1)])),
      1,
    );
  return { keys: join(prefixes.map(({ keys }) => keys)), values: join(prefixes.map(({ values }) => values)) };
}

function rowOf(prefix: AttentionPrefix, row: number): KeyValuePrefix | undefined {
  if (isByRow(prefix)) return prefix[row];
  if (prefix.keys.shape[0] === 1) return prefix;
  throw new InvalidArgumentError('prefix: one with keys of its own for every row stands beside prefixes by row; expected them all by row');
}

/** The tensors of a prefix, for what has to hold on to them; `withPrefixTensors` puts others in their places. */
export function prefixTensors(prefix: AttentionPrefix): Tensor[] {
  const parts = isByRow(prefix) ? new Set(prefix.filter((part) => part !== undefined)) : [prefix];
  return [...parts].flatMap(({ keys, values }) => [keys, values]);
}

/** The same prefix made of other tensors, in the order of `prefixTensors`. */
export function withPrefixTensors(prefix: AttentionPrefix, tensors: readonly Tensor[]): AttentionPrefix {
  const before = prefixTensors(prefix);
  const replaced = ({ keys, values }: KeyValuePrefix): KeyValuePrefix => ({
    keys: tensors[before.indexOf(keys)] as Tensor,
    values: tensors[before.indexOf(values)] as Tensor,
  });
  return isByRow(prefix) ? prefix.map((part) => part && replaced(part)) : replaced(prefix);
}

function check(prefix: AttentionPrefix, k: Tensor): void {
  const [batch = 0, , groups, width] = k.shape;
  if (isByRow(prefix) && prefix.length !== batch)
    throw new InvalidArgumentError(`attention: the prefix must have an entry a row; got ${prefix.length}, expected ${batch}`);
  for (const part of prefixTensors(prefix)) {
    const [rows, , g, w] = part.shape;
    const fits = part.rank === 4 && g === groups && w === width && (rows === 1 || (rows === batch && !isByRow(prefix)));
    if (!fits)
      throw new InvalidArgumentError(
        `attention: the prefix does not fit the layer; got [${part.shape}], expected [1, P, ${groups}, ${width}]`,
      );
  }
}

/**
 * k and v [B, T, G, K] with a prefix in front, in the dtype of k: [B, P + T, G, K] with the longest P. A row with fewer has its tokens right after its own prefix
 * and zeros behind them. The gradient reaches the prefix.
 */
export function withPrefix(prefix: AttentionPrefix, k: Tensor, v: Tensor): Prefixed {
  check(prefix, k);
  const [batch = 0, , groups = 0, width = 0] = k.shape;
  if (!isByRow(prefix)) {
    const length = prefixLength(prefix);
    const whole = (part: Tensor): Tensor => expand(cast(part, k.dtype), [batch, length, groups, width]);
    return { k: concat([whole(prefix.keys), k], 1), v: concat([whole(prefix.values), v], 1), lengths: length };
  }
  const lengths = prefix.map(prefixLength);
  const longest = Math.max(...lengths);
  const rows = (which: 'keys' | 'values', tokens: Tensor): Tensor =>
    concat(
      prefix.map((part, row) => {
        const gap = longest - (lengths[row] ?? 0);
        const behind = gap === 0 ? [] : [zeros([1, gap, groups, width], { dtype: k.dtype })];
        return concat([...(part === undefined ? [] : [cast(part[which], k.dtype)]), narrow(tokens, 0, row, 1), ...behind], 1);
      }),
      0,
    );
  return { k: rows('keys', k), v: rows('values', v), lengths };
}
