import { op } from '../native.js';
import type { TensorHandle } from '../native-types.js';
import { Tensor } from '../tensor.js';

const rmsNormOp = op('rmsNorm');
const layerNormOp = op('layerNorm');
const addRmsNormOp = op('addRmsNorm');
const addLayerNormOp = op('addLayerNorm');

/**
 * weight · x / √(mean(x²) + eps) over the last dimension, normalised in f32 and rounded to x's dtype before the weight. x [.., D], weight [D] of x's dtype
 * or f32. Differentiable in both.
 */
export function rmsNorm(x: Tensor, weight: Tensor, eps = 1e-6): Tensor {
  return new Tensor(rmsNormOp(x.handle, weight.handle, eps));
}

/**
 * (x − mean) / √(variance + eps) · weight + bias over the last dimension, with the population variance, in f32. x [.., D], weight and bias [D] of x's dtype
 * or both f32; either may be left out. Differentiable in all three.
 */
export function layerNorm(x: Tensor, weight?: Tensor, bias?: Tensor, eps = 1e-5): Tensor {
  return new Tensor(layerNormOp(x.handle, weight?.handle, bias?.handle, eps));
}

const pairOf = ([sum, normed]: readonly (TensorHandle | undefined)[]): [sum: Tensor, normed: Tensor] => [
  new Tensor(sum as TensorHandle),
  new Tensor(normed as TensorHandle),
];

/**
 * x + addend and its {@link rmsNorm}, in one pass over memory and with the bits of the two ops. x and addend [.., D] of one shape and dtype, weight [D] of x's
 * dtype or f32. Differentiable in all three.
 */
export function addRmsNorm(x: Tensor, addend: Tensor, weight: Tensor, eps = 1e-6): [sum: Tensor, normed: Tensor] {
  return pairOf(addRmsNormOp(x.handle, addend.handle, weight.handle, eps));
}

/**
 * x + addend and its {@link layerNorm}, in one pass over memory and with the bits of the two ops. x and addend [.., D] of one shape and dtype, weight and bias [D]
 * of x's dtype or both f32; either may be left out. Differentiable in all four.
 */
export function addLayerNorm(x: Tensor, addend: Tensor, weight?: Tensor, bias?: Tensor, eps = 1e-5): [sum: Tensor, normed: Tensor] {
  return pairOf(addLayerNormOp(x.handle, addend.handle, weight?.handle, bias?.handle, eps));
}
