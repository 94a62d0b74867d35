import { InvalidArgumentError, ShapeError } from '../errors.js';
import { op } from '../native.js';
import { Tensor } from '../tensor.js';
import { narrow, unsqueeze } from './shape.js';

const concatOp = op('concat');

/** The tensors one after the other along `dim` (default 0): one dtype, equal sizes in the other dimensions. Differentiable. */
export function concat(tensors: readonly Tensor[], dim = 0): Tensor {
  return new Tensor(
    concatOp(
      tensors.map((x) => x.handle),
      dim,
    ),
  );
}

/** The tensors, all of one shape, along a new dimension `dim` (default 0). Differentiable. */
export function stack(tensors: readonly Tensor[], dim = 0): Tensor {
  const raised = tensors.map((x) => unsqueeze(x, dim));
  try {
    return concat(raised, dim);
  } finally {
    for (const view of raised) view.dispose();
  }
}

/**
 * Views of x along `dim` (default 0): of `sizes` when given a list, which must add up to the dimension; of one size when given a number, the last one smaller
 * where it does not divide.
 */
export function split(x: Tensor, sizes: number | readonly number[], dim = 0): Tensor[] {
  const total = x.shape.at(dim);
  if (total === undefined || dim < -x.rank) {
    throw new ShapeError(`split: dimension out of range; got ${dim}, expected -${x.rank} to ${x.rank - 1}`);
  }
  const parts = typeof sizes === 'number' ? evenParts(total, sizes) : sizes;
  const sum = parts.reduce((a, b) => a + b, 0);
  if (sum !== total) throw new ShapeError(`split: sizes do not add up; got [${parts.join(', ')}] = ${sum}, expected ${total}`);
  let start = 0;
  return parts.map((size) => {
    const part = narrow(x, dim, start, size);
    start += size;
    return part;
  });
}

function evenParts(total: number, size: number): number[] {
  if (!Number.isInteger(size) || size <= 0) throw new InvalidArgumentError(`split: the size must be a positive whole number; got ${size}`);
  return Array.from({ length: Math.ceil(total / size) }, (_, i) => Math.min(size, total - i * size));
}
