import { InvalidArgumentError } from '../errors.js';
import { op } from '../native.js';
import { add, clamp, mul, reciprocal } from '../ops/elementwise.js';
import { noGrad, scope } from '../scope.js';
import { Tensor } from '../tensor.js';

const globalNormOp = op('globalNorm');
const nonFiniteCountOp = op('nonFiniteCount');
const gradientNormOp = op('gradientNorm');
const nonFiniteGradientsOp = op('nonFiniteGradients');
const scaleGradientsOp = op('scaleGradients');

const handles = (tensors: Iterable<Tensor>) => Array.from(tensors, (x) => x.handle);

/** The Euclidean norm of all elements of all tensors: a scalar, f32 (f64 when all are f64). Summed in f64 in the order of the list. */
export function globalNorm(tensors: Iterable<Tensor>): Tensor {
  return new Tensor(globalNormOp(handles(tensors)));
}

/** The norm of the gradients of `parameters` taken together, as a scalar tensor; parameters without a gradient are passed over. */
export function gradientNorm(parameters: Iterable<Tensor>): Tensor {
  return new Tensor(gradientNormOp(handles(parameters)));
}

/** How many elements of the gradients of `parameters` are NaN or infinite: an i64 scalar. */
export function nonFiniteGradients(parameters: Iterable<Tensor>): Tensor {
  return new Tensor(nonFiniteGradientsOp(handles(parameters)));
}

/** How many elements of all tensors are NaN or infinite: an i64 scalar. */
export function nonFiniteCount(tensors: Iterable<Tensor>): Tensor {
  return new Tensor(nonFiniteCountOp(handles(tensors)));
}

/**
 * The factor min(1, maxNorm / (norm + 1e-6)) that brings gradients of this norm down to `maxNorm`, as a scalar tensor for `optimizer.step({ clipScale })`.
 * Computed where the norm is; nothing is read back. A norm that is NaN gives NaN.
 */
export function clipScale(norm: Tensor, maxNorm: number): Tensor {
  if (!(maxNorm > 0)) throw new InvalidArgumentError(`clipScale: the limit must be above 0; got ${maxNorm}`);
  return noGrad(() => scope(() => clamp(mul(reciprocal(add(norm, 1e-6)), maxNorm), 0, 1)));
}

/**
 * Scales the gradients of `parameters` in place so that their common norm is at most `maxNorm`, and returns the norm before (a scalar tensor).
 * `optimizer.step({ clipScale: clipScale(gradientNorm(parameters), max) })` does the same in one pass over the gradients less.
 */
export function clipGradNorm(parameters: Iterable<Tensor>, maxNorm: number): Tensor {
  const list = handles(parameters);
  const norm = new Tensor(gradientNormOp(list));
  const factor = clipScale(norm, maxNorm);
  scaleGradientsOp(list, factor.handle);
  factor.dispose();
  return norm;
}
