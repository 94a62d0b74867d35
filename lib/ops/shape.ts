import { ShapeError } from '../errors.js';
import { op } from '../native.js';
import { Tensor } from '../tensor.js';

const reshapeOp = op('reshape');
const permuteOp = op('permute');
const narrowOp = op('narrow');
const expandOp = op('expand');
const contiguousOp = op('contiguous');
const copyIntoOp = op('copyInto');
const fillOp = op('fill');

function normalizeDim(name: string, dim: number, rank: number): number {
  if (!Number.isInteger(dim) || dim < -rank || dim >= rank) {
    throw new ShapeError(`${name}: dimension out of range; got ${dim}, expected -${rank} to ${rank - 1}`);
  }
  return dim < 0 ? dim + rank : dim;
}

/** The same elements in another shape, as a view where the strides allow it. One size may be −1. */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  return new Tensor(reshapeOp(x.handle, shape));
}

/** A view whose dimension i is dimension `order[i]` of x. */
export function permute(x: Tensor, order: readonly number[]): Tensor {
  return new Tensor(permuteOp(x.handle, order));
}

/** A view with two dimensions exchanged; the last two by default. */
export function transpose(x: Tensor, a = -2, b = -1): Tensor {
  const order = x.shape.map((_, i) => i);
  const first = normalizeDim('transpose', a, x.rank);
  const second = normalizeDim('transpose', b, x.rank);
  order[first] = second;
  order[second] = first;
  return permute(x, order);
}

/** The view x[.., start : start + length, ..] along `dim`. */
export function narrow(x: Tensor, dim: number, start: number, length: number): Tensor {
  return new Tensor(narrowOp(x.handle, dim, start, length));
}

/** The view of one index along `dim`, which disappears. A negative index counts from the end. */
export function select(x: Tensor, dim: number, index: number): Tensor {
  const d = normalizeDim('select', dim, x.rank);
  const size = x.shape[d] as number;
  const one = narrow(x, d, index < 0 ? index + size : index, 1);
  return reshape(
    one,
    x.shape.filter((_, i) => i !== d),
  );
}

/** A view repeated along dimensions of size 1 and new leading ones, without copying. */
export function expand(x: Tensor, shape: readonly number[]): Tensor {
  return new Tensor(expandOp(x.handle, shape));
}

/** A view without the dimension `dim` of size 1. */
export function squeeze(x: Tensor, dim: number): Tensor {
  const d = normalizeDim('squeeze', dim, x.rank);
  if (x.shape[d] !== 1) throw new ShapeError(`squeeze: the dimension is not of size 1; got ${x.shape[d]}`);
  return reshape(
    x,
    x.shape.filter((_, i) => i !== d),
  );
}

/** A view with a new dimension of size 1 before `dim`. */
export function unsqueeze(x: Tensor, dim: number): Tensor {
  const d = normalizeDim('unsqueeze', dim, x.rank + 1);
  return reshape(x, [...x.shape.slice(0, d), 1, ...x.shape.slice(d)]);
}

/** x itself when its memory is in row-major order, else a copy that is. */
export function contiguous(x: Tensor): Tensor {
  return new Tensor(contiguousOp(x.handle));
}

/** Overwrites `target` in place with `source`, broadcast and cast. Not recorded. */
export function copyInto(target: Tensor, source: Tensor): void {
  copyIntoOp(target.handle, source.handle);
}

/** Fills `target` in place with a number. Not recorded. */
export function fill(target: Tensor, value: number): void {
  fillOp(target.handle, value);
}
