import { InvalidArgumentError, ShapeError } from '../errors.js';
import { op } from '../native.js';
import { Tensor } from '../tensor.js';
import { abs } from './elementwise.js';
import { sum } from './reduce.js';
import { reshape } from './shape.js';

const topKMaskOp = op('topKMask');
const maskCountOp = op('maskCount');
const maskIndicesOp = op('maskIndices');
const indexMaskOp = op('indexMask');
const expandBlockMaskOp = op('expandBlockMask');
const maskedGatherOp = op('maskedGather');
const maskedScatterOp = op('maskedScatter');
const maskedUpdateOp = op('maskedUpdate');

// A mask says which of the n entries of a tensor, row by row, are owned. It is a bitmask, u8 [ceil(n / 8)] with entry i in bit i % 8 of byte i / 8, or the list of
// owned places, i32 [owned], rising. What it owns of a tensor, one entry after the other, is compact: [owned].

/**
 * The bitmasks of the k entries of the largest magnitude in all the tensors together, one for each tensor; exactly k: of equal ones those that come first are
 * taken, tensor by tensor. NaN counts as larger than everything. Floating tensors, all of f64 or none; 0 ≤ k ≤ number of entries. Not differentiable.
 */
export function topKMask(x: Tensor, k: number): Tensor;
export function topKMask(x: readonly Tensor[], k: number): Tensor[];
export function topKMask(x: Tensor | readonly Tensor[], k: number): Tensor | Tensor[] {
  if (x instanceof Tensor) return topKMask([x], k)[0] as Tensor;
  return topKMaskOp(
    x.map(({ handle }) => handle),
    k,
  ).map((handle) => new Tensor(handle));
}

/** Like `topKMask` of one tensor, as a list of rising places: i32 [k]. The tensor has fewer than 2³¹ entries. */
export function topKIndices(x: Tensor, k: number): Tensor {
  return maskIndices(topKMask(x, k), x.size, k);
}

/** The bitmask, over the grid of blocks [R / block, C / block] of a matrix [R, C], of the k blocks with the largest sum of magnitudes. */
export function topKBlockMask(x: Tensor, k: number, block: number): Tensor {
  const [rows, columns] = gridOf('topKBlockMask', x, block);
  return topKMask(sum(abs(reshape(x.detach(), [rows, block, columns, block])), [1, 3]), k);
}

/** How many of its n entries a bitmask owns: i64, one number. */
export function maskCount(bits: Tensor, n: number): Tensor {
  return new Tensor(maskCountOp(bits.handle, n));
}

/** The places that a bitmask of n entries owns, `count` of them (another number fails when the work runs): i32 [count]. n is below 2³¹. */
export function maskIndices(bits: Tensor, n: number, count: number): Tensor {
  return new Tensor(maskIndicesOp(bits.handle, n, count));
}

/** The bitmask of n entries that owns the places of a list, i32 [owned], which rise (others fail when the work runs). */
export function indexMask(indices: Tensor, n: number): Tensor {
  return new Tensor(indexMaskOp(indices.handle, n));
}

/** The bitmask over the elements of a matrix [rows, columns] whose square blocks a bitmask over the grid of blocks owns. */
export function expandBlockMask(bits: Tensor, shape: readonly [number, number], block: number): Tensor {
  return new Tensor(expandBlockMaskOp(bits.handle, shape[0], shape[1], block));
}

export interface MaskedOptions {
  /** Side of the square blocks, where the mask is over the grid of blocks of a matrix. Default 1: over the elements. */
  readonly block?: number;
}

/**
 * What a mask owns of x, `count` entries: [count], or [count, block, block]. The mask is a bitmask or an index list; one that owns another number fails when the
 * work runs. Differentiable in x.
 */
export function maskedGather(x: Tensor, mask: Tensor, count: number, { block = 1 }: MaskedOptions = {}): Tensor {
  return new Tensor(maskedGatherOp(x.handle, mask.handle, count, block));
}

/** Overwrites what a mask owns of `target`, a contiguous tensor, with `values` of its dtype, in the order of `maskedGather`. In place, not recorded. */
export function maskedScatter(target: Tensor, mask: Tensor, values: Tensor, { block = 1 }: MaskedOptions = {}): void {
  maskedScatterOp(target.handle, mask.handle, values.handle, block);
}

export interface MaskedUpdateOptions extends MaskedOptions {
  /** What becomes of the entries that the mask owns: `replace` (default) puts the values in their place, `add` adds the values to them. */
  readonly mode?: 'replace' | 'add';
}

/**
 * A copy of x in which what a mask owns is updated by `values`, such as a weight by a sparse task vector ("Composable Sparse Fine-Tuning for Cross-Lingual Transfer");
 * all other entries keep their bits. x is a floating tensor, the mask a bitmask or an index list, and `values` [owned], or [owned, block, block], have the dtype of x
 * and the order of `maskedGather`. In place without a copy: `maskedScatter`. Differentiable in x and values.
 *
 * ```ts
 * const tuned = maskedUpdate(weight, topKIndices(difference, 1000), deltas, { mode: 'add' });
 * ```
 *
 * Throws `InvalidArgumentError` for another mode, for masks that do not fit x and for values of another dtype, `ShapeError` for values of another shape; a bitmask
 * that owns another number of entries fails when the work runs.
 */
export function maskedUpdate(x: Tensor, mask: Tensor, values: Tensor, { block = 1, mode = 'replace' }: MaskedUpdateOptions = {}): Tensor {
  if (mode !== 'replace' && mode !== 'add')
    throw new InvalidArgumentError(`maskedUpdate: unknown mode; got ${JSON.stringify(mode)}, expected "replace" or "add"`);
  return new Tensor(maskedUpdateOp(x.handle, mask.handle, values.handle, mode === 'add', block));
}

function gridOf(name: string, x: Tensor, block: number): [number, number] {
  const [rows = 0, columns = 0] = x.shape;
  if (x.rank !== 2 || !(Number.isInteger(block) && block > 0) || rows % block !== 0 || columns % block !== 0)
    throw new ShapeError(`${name}: blocks of ${block} x ${block} need a matrix that they divide; got [${x.shape.join(', ')}]`);
  return [rows / block, columns / block];
}
