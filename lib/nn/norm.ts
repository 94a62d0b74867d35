import { ones, zeros } from '../ops/create.js';
import { add } from '../ops/elementwise.js';
import { addLayerNorm, addRmsNorm, layerNorm, rmsNorm } from '../ops/norm.js';
import type { Tensor } from '../tensor.js';
import type { ForwardContext } from './context.js';
import { type LayerOptions, parameter } from './init.js';
import { Layer } from './module.js';

export interface NormOptions extends Omit<LayerOptions, 'seed'> {
  /** Added to the mean square or variance; default 1e-5. */
  readonly epsilon?: number;
}

/** A sum and its norm, of one shape. */
export interface NormedSum {
  readonly sum: Tensor;
  readonly normed: Tensor;
}

/** y = x / sqrt(mean(x^2) + epsilon) * weight over the last axis; weight [size]. */
export class RmsNorm extends Layer {
  readonly size: number;
  readonly epsilon: number;
  weight!: Tensor;

  constructor(size: number, options: NormOptions = {}) {
    super(options.role ?? 'norm');
    this.size = size;
    this.epsilon = options.epsilon ?? 1e-5;
    if (options.init !== 'none') this.weight = parameter(() => ones([size], { dtype: options.dtype ?? 'f32' }));
  }

  override forward(x: Tensor, _context?: ForwardContext): Tensor {
    return rmsNorm(x, this.weight, this.epsilon);
  }

  /** The norm of x + addend [.., size], with the sum. */
  ofSum(x: Tensor, addend: Tensor): NormedSum {
    const [sum, normed] = addRmsNorm(x, addend, this.weight, this.epsilon);
    return { sum, normed };
  }

  override parameterShapes(): Record<string, readonly number[]> {
    return { weight: [this.size] };
  }
}

/** y = (x - mean) / sqrt(variance + epsilon) * weight + bias over the last axis; weight and bias [size]. */
export class LayerNorm extends Layer {
  readonly size: number;
  readonly epsilon: number;
  weight!: Tensor;
  bias!: Tensor;

  constructor(size: number, options: NormOptions = {}) {
    super(options.role ?? 'norm');
    this.size = size;
    this.epsilon = options.epsilon ?? 1e-5;
    if (options.init === 'none') return;
    this.weight = parameter(() => ones([size], { dtype: options.dtype ?? 'f32' }));
    this.bias = parameter(() => zeros([size], { dtype: options.dtype ?? 'f32' }));
  }

  override forward(x: Tensor, _context?: ForwardContext): Tensor {
    return layerNorm(x, this.weight, this.bias, this.epsilon);
  }

  /** The norm of x + addend [.., size], with the sum. */
  ofSum(x: Tensor, addend: Tensor): NormedSum {
    const [sum, normed] = addLayerNorm(x, addend, this.weight, this.bias, this.epsilon);
    return { sum, normed };
  }

  override parameterShapes(): Record<string, readonly number[]> {
    return { weight: [this.size], bias: [this.size] };
  }
}

/**
 * x + addend, with broadcasting, and what `norm` makes of it: in one pass where both are [.., D] of one shape, the norm is one of the above with the `forward` of
 * its class, and nothing stands around it.
 */
export function normOfSum(norm: Layer, x: Tensor, addend: Tensor, context: ForwardContext): NormedSum {
  const plain = norm.effective(context);
  if (isKnown(plain) && haveOneShape(x, addend)) return plain.ofSum(x, addend);
  const sum = add(x, addend);
  return { sum, normed: norm.forward(sum, context) };
}

const isKnown = (norm: Layer): norm is RmsNorm | LayerNorm =>
  (norm instanceof RmsNorm && norm.forward === RmsNorm.prototype.forward) ||
  (norm instanceof LayerNorm && norm.forward === LayerNorm.prototype.forward);

function haveOneShape({ shape }: Tensor, other: Tensor): boolean {
  return shape.length === other.shape.length && shape.every((size, axis) => size === other.shape[axis]);
}
