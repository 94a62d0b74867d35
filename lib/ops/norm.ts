import { op } from '../native.js';
import { Tensor } from '../tensor.js';

const rmsNormOp = op('rmsNorm');
const layerNormOp = op('layerNorm');

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
