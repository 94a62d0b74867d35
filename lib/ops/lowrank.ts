import { op } from '../native.js';
import { Tensor } from '../tensor.js';
import type { PackedWeight } from './linalg.js';

const lowRankLinearOp = op('lowRankLinear');
const lowRankLinearsOp = op('lowRankLinears');
const sgmvOp = op('sgmv');

/** One adapter's low-rank delta of a linear layer: scale * b a. */
export interface LowRankFactors {
  /** [R, K]. */
  readonly a: Tensor;
  /** [N, R]. */
  readonly b: Tensor;
  /** Multiplies the whole contribution, its bias included. */
  readonly scale: number;
  /** [N]; adds scale * bias to the rows of the adapter. */
  readonly bias?: Tensor;
  /** Probability in [0, 1) of dropping an element of x for this adapter alone; kept ones are divided by 1 - dropout. Default 0. */
  readonly dropout?: number;
  /** Counters of the dropout mask; element k of the adapter's t-th own row has index t * K + k. Default 0. */
  readonly seed?: number | bigint;
  readonly stream?: number | bigint;
}

/** Rows start <= row < end (all leading dimensions flattened) use these adapters, given by their index. */
export interface RowSegment {
  readonly start: number;
  readonly end: number;
  readonly adapters: readonly number[];
}

export interface LowRankLinearOptions {
  /** [N]. */
  readonly bias?: Tensor;
  readonly adapters: readonly LowRankFactors[];
  /** In rising order, not overlapping; rows outside get the base alone. Default: every row uses all adapters. */
  readonly segments?: readonly RowSegment[];
}

/** One of several layers of one x. */
export interface LowRankLayer extends LowRankLinearOptions {
  /** [N, K]. */
  readonly weight: PackedWeight | Tensor;
}

function adapterArguments(factors: readonly LowRankFactors[]) {
  return factors.map(({ a, b, bias, scale, dropout = 0, seed = 0, stream = 0 }) => ({
    a: a.handle,
    b: b.handle,
    bias: bias?.handle,
    scale,
    dropout,
    seed,
    stream,
  }));
}

/**
 * y [.., N] = x [.., K] Wᵀ + bias + Σ_i scale_i (drop_i(x) a_iᵀ) b_iᵀ in one pass, with any number of adapters of different ranks, on all rows or by
 * segments. The dtype of y is that of x; factors may have another one (f32 factors on a bf16 base). Where the base runs in bf16 (x and weight in bf16 on
 * a machine with that instruction) the low-rank steps are rounded to bf16 too, with f32 sums.
 *
 * x is kept for backward only when some `a` (or a dense weight) wants a gradient. Gradients of a, b and bias are f32 sums over the adapter's own rows, and
 * have the same bits whatever else is in the batch.
 */
export function lowRankLinear(x: Tensor, weight: PackedWeight | Tensor, options: LowRankLinearOptions): Tensor {
  const { bias, adapters, segments } = options;
  return new Tensor(lowRankLinearOp(x.handle, weight.handle, bias?.handle, adapterArguments(adapters), segments));
}

/**
 * What `lowRankLinear` gives for each of some layers of one x, with the same bits, as one op: A of adapters with the same rows are multiplied by together,
 * and the products of all layers are one job. In backward dx is one job too, and the gradients of those A take one pass over x. Layers that are not alike in
 * dtype, and layers in layout `int8` or `codes`, run one by one.
 */
export function lowRankLinears(x: Tensor, layers: readonly LowRankLayer[]): Tensor[] {
  const list = layers.map(({ weight, bias, adapters, segments }) => ({
    weight: weight.handle,
    bias: bias?.handle,
    adapters: adapterArguments(adapters),
    segments,
  }));
  return lowRankLinearsOp(x.handle, list).map((handle) => new Tensor(handle));
}

/**
 * Segmented low-rank products alone: y [.., N] = Σ_i scale_i (x a_iᵀ) b_iᵀ over the adapters of each row's segment, zero elsewhere. A segment may be a
 * single row, as in decoding a batch of sequences that use different adapters.
 */
export function sgmv(x: Tensor, factors: readonly LowRankFactors[], segments: readonly RowSegment[]): Tensor {
  return new Tensor(sgmvOp(x.handle, adapterArguments(factors), segments));
}
