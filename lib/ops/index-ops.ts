import { op } from '../native.js';
import { Tensor } from '../tensor.js';
import { PackedWeight } from './linalg.js';

const embeddingOp = op('embedding');
const embeddingRowsOp = op('embeddingRows');
const gatherOp = op('gather');
const scatterAddOp = op('scatterAdd');
const indexSelectOp = op('indexSelect');
const topKOp = op('topK');

/**
 * The rows of `weight` [V, D] named by `ids` (i64 or i32, any shape): ids' shape + [D]. An id outside the vocabulary fails when the work runs, so the error
 * comes from the next `data()` or `item()` and names the id. Differentiable in weight, which may also be a {@link PackedWeight}: rows are then read from its
 * panels or computed from its blocks.
 */
export function embedding(weight: Tensor | PackedWeight, ids: Tensor): Tensor {
  if (weight instanceof PackedWeight) return new Tensor(embeddingRowsOp(weight.handle, ids.handle));
  return new Tensor(embeddingOp(weight.handle, ids.handle));
}

/** y[.., k, ..] = x[.., index[.., k, ..], ..] along `dim`. index (i64 or i32) has x's shape but for `dim`. Differentiable in x. */
export function gather(x: Tensor, dim: number, index: Tensor): Tensor {
  return new Tensor(gatherOp(x.handle, dim, index.handle));
}

/** x with `source` added at `index` along `dim`, in order. index and source have one shape, that of x but for `dim`. Differentiable in x and source. */
export function scatterAdd(x: Tensor, dim: number, index: Tensor, source: Tensor): Tensor {
  return new Tensor(scatterAddOp(x.handle, dim, index.handle, source.handle));
}

/** Slices of x along `dim` in the order of `index` ([K], i64 or i32). Differentiable in x. */
export function indexSelect(x: Tensor, dim: number, index: Tensor): Tensor {
  return new Tensor(indexSelectOp(x.handle, dim, index.handle));
}

export interface TopK {
  /** [.., k], largest first. Differentiable. */
  readonly values: Tensor;
  /** [.., k], i64: places in the row. */
  readonly indices: Tensor;
}

/** The k largest elements of every row (last dimension), exactly; of equal ones the lowest index comes first, NaN is larger than everything. */
export function topK(x: Tensor, k: number): TopK {
  const [values, indices] = topKOp(x.handle, k).map((handle) => new Tensor(handle)) as [Tensor, Tensor];
  return { values, indices };
}
