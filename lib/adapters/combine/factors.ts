import { qr, svd } from '../../linalg/index.js';
import { tensor, uniform } from '../../ops/create.js';
import { cast, mul } from '../../ops/elementwise.js';
import { concat } from '../../ops/join.js';
import { matmul } from '../../ops/linalg.js';
import { narrow, reshape, transpose } from '../../ops/shape.js';
import { hashName } from '../../random.js';
import type { Tensor } from '../../tensor.js';
import type { Combination } from './options.js';
import { combineVectors, type TaskVector } from './task-vectors.js';

/** The pair of one adapter on one layer: its change is scale * B A, and counts `weight` times. */
export interface WeightedPair {
  readonly adapter: string;
  /** [R, K]. */
  readonly a: Tensor;
  /** [N, R]. */
  readonly b: Tensor;
  readonly scale: number;
  readonly weight: number;
}

/** The factors of a combination, with scale 1. */
export interface Factors {
  readonly a: Tensor;
  readonly b: Tensor;
}

/** Rank of the combination on a layer where the pairs have these ranks, whose weight is [n, k]. */
export function combinedRank(ranks: readonly number[], [n, k]: readonly [number, number], { form, rank }: Combination): number {
  if (form === 'cat') return ranks.reduce((total, each) => total + each, 0);
  const largest = Math.max(...ranks);
  return form === 'svd' ? Math.min(rank ?? largest, n, k) : largest;
}

/** The combined factors on one layer, [rank, K] and [N, rank], in f64. Called without recording, inside a scope. */
export async function combineFactors(
  path: string,
  pairs: readonly WeightedPair[],
  combination: Combination,
  rank: number,
): Promise<Factors> {
  if (combination.form === 'cat') return joined(pairs);
  if (combination.form === 'factors') return added(path, pairs, combination);
  return combination.prune === 'none' ? decomposedSum(joined(pairs), rank) : decomposed(await summed(path, pairs, combination), rank);
}

/** The values in f64, off the tape. */
const wide = (x: Tensor): Tensor => cast(x.detach(), 'f64');

/** A = [w_1 s_1 A_1; w_2 s_2 A_2; …], B = [B_1, B_2, …]: B A is the weighted sum of the changes. */
function joined(pairs: readonly WeightedPair[]): Factors {
  return {
    a: concat(
      pairs.map(({ a, weight, scale }) => mul(wide(a), weight * scale)),
      0,
    ),
    b: concat(
      pairs.map(({ b }) => wide(b)),
      1,
    ),
  };
}

async function vectorsOf(
  path: string,
  name: string,
  parts: readonly { readonly adapter: string; readonly value: Tensor; readonly weight: number }[],
  { prune, seed }: Combination,
): Promise<TaskVector[]> {
  return Promise.all(
    parts.map(async ({ adapter, value, weight }) => {
      const stream = hashName(`combine.${path}.${name}.${adapter}`);
      const chances = prune === 'random' ? uniform([value.size], { seed, stream, dtype: 'f64' }).data() : undefined;
      return { values: (await value.data()) as Float64Array, weight, chances: (await chances) as Float64Array | undefined };
    }),
  );
}

/** A and B each combined by itself, each with the root of the weight; the sign goes with A. */
async function added(path: string, pairs: readonly WeightedPair[], combination: Combination): Promise<Factors> {
  const combine = async (name: 'a' | 'b'): Promise<Tensor> => {
    const parts = pairs.map(({ adapter, weight, scale, ...factors }) => {
      const root = Math.sqrt(Math.abs(weight * scale));
      return { adapter, value: wide(factors[name]), weight: name === 'a' && weight * scale < 0 ? -root : root };
    });
    const values = combineVectors(await vectorsOf(path, name, parts, combination), combination);
    return tensor(values, { shape: pairs[0]?.[name].shape ?? [] });
  };
  return { a: await combine('a'), b: await combine('b') };
}

/** The full changes combined value by value, [N, K]. */
async function summed(path: string, pairs: readonly WeightedPair[], combination: Combination): Promise<Tensor> {
  const parts = pairs.map(({ adapter, a, b, scale, weight }) => ({ adapter, value: mul(matmul(wide(b), wide(a)), scale), weight }));
  const shape = parts[0]?.value.shape ?? [];
  return tensor(combineVectors(await vectorsOf(path, 'delta', parts, combination), combination), { shape });
}

/** The nearest product of rank `rank` to x: B = U diag(s), A = Vᵀ. */
function decomposed(x: Tensor, rank: number): Factors {
  const { u, s, vt } = svd(x);
  const b = mul(narrow(u, 1, 0, rank), reshape(narrow(s, 0, 0, rank), [1, rank]));
  return { a: narrow(vt, 0, 0, rank), b };
}

/** The same for x = B A, by way of the small matrix between the orthonormal parts of B and Aᵀ. */
function decomposedSum({ a, b }: Factors, rank: number): Factors {
  const left = qr(b);
  const right = qr(transpose(a));
  const core = matmul(left.r, transpose(right.r));
  const found = Math.min(core.shape[0] ?? 0, core.shape[1] ?? 0, rank);
  const inner = decomposed(core, found);
  const factors = { a: matmul(inner.a, transpose(right.q)), b: matmul(left.q, inner.b) };
  return found === rank ? factors : padded(factors, rank - found);
}

/** More rank than the sum has: further rows and columns of zeros. */
function padded({ a, b }: Factors, more: number): Factors {
  const zeros = (shape: number[]): Tensor => tensor(new Float64Array(shape.reduce((product, size) => product * size, 1)), { shape });
  return { a: concat([a, zeros([more, a.shape[1] ?? 0])], 0), b: concat([b, zeros([b.shape[0] ?? 0, more])], 1) };
}
