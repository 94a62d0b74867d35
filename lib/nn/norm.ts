import { ones, zeros } from '../ops/create.js';
import { layerNorm, rmsNorm } from '../ops/norm.js';
import type { Tensor } from '../tensor.js';
import type { ForwardContext } from './context.js';
import { type LayerOptions, parameter } from './init.js';
import { Layer } from './module.js';

export interface NormOptions extends Omit<LayerOptions, 'seed'> {
  /** Added to the mean square or variance; default 1e-5. */
  readonly epsilon?: number;
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

  override parameterShapes(): Record<string, readonly number[]> {
    return { weight: [this.size], bias: [this.size] };
  }
}
