import { InvalidArgumentError } from '../errors.js';
import { isRecomputing } from '../gradient.js';
import { ones, zeros } from '../ops/create.js';
import { add, mul, rsqrt, square, sub } from '../ops/elementwise.js';
import { mean } from '../ops/reduce.js';
import { copyInto, reshape } from '../ops/shape.js';
import { noGrad, scope, unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { ForwardContext } from './context.js';
import { parameter } from './init.js';
import { Layer } from './module.js';
import type { NormOptions } from './norm.js';

export interface BatchNormOptions extends NormOptions {
  /** Share of a new batch in the running statistics. Default 0.1. */
  readonly momentum?: number;
}

/**
 * y = (x − mean) / √(variance + epsilon) · weight + bias for every channel of x [B, C] or [B, C, L]; weight and bias [C]. In training with the statistics of the
 * batch (population variance), which also move `running_mean` and `running_var` (sample variance) by `momentum`; else with these. A row's output in training
 * depends on its batch. "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift".
 */
export class BatchNorm1d extends Layer {
  readonly size: number;
  readonly epsilon: number;
  readonly momentum: number;
  weight!: Tensor;
  bias!: Tensor;
  running_mean!: Tensor;
  running_var!: Tensor;
  /** Batches seen in training, i64 []. */
  num_batches_tracked!: Tensor;

  constructor(size: number, options: BatchNormOptions = {}) {
    super(options.role ?? 'norm');
    this.size = size;
    this.epsilon = options.epsilon ?? 1e-5;
    this.momentum = options.momentum ?? 0.1;
    if (options.init === 'none') return;
    const dtype = options.dtype ?? 'f32';
    this.weight = parameter(() => ones([size], { dtype }));
    this.bias = parameter(() => zeros([size], { dtype }));
    this.running_mean = unscoped(() => zeros([size], { dtype }));
    this.running_var = unscoped(() => ones([size], { dtype }));
    this.num_batches_tracked = unscoped(() => zeros([], { dtype: 'i64' }));
  }

  override forward(x: Tensor, context?: ForwardContext): Tensor {
    if (x.shape.length < 2 || x.shape.length > 3 || x.shape[1] !== this.size)
      throw new InvalidArgumentError(`batchNorm1d: got x [${x.shape.join(', ')}], expected [B, ${this.size}] or [B, ${this.size}, L]`);
    return scope(() => {
      const channels = [1, this.size, ...x.shape.slice(2).map(() => 1)];
      const across = (value: Tensor): Tensor => reshape(value, channels);
      const trains = context?.training ?? this.training;
      const [centre, variance] = trains ? this.#statistics(x) : [across(this.running_mean), across(this.running_var)];
      const scale = mul(rsqrt(add(variance, this.epsilon)), across(this.weight));
      return add(mul(sub(x, centre), scale), across(this.bias));
    });
  }

  /** Mean and population variance of every channel, on the tape; notes them in the running ones. */
  #statistics(x: Tensor): [Tensor, Tensor] {
    const count = x.size / this.size;
    if (count < 2)
      throw new InvalidArgumentError(`batchNorm1d: needs at least two values a channel in training; got x [${x.shape.join(', ')}]`);
    const dims = x.shape.length === 2 ? [0] : [0, 2];
    const centre = mean(x, dims, { keepDim: true });
    const variance = mean(square(sub(x, centre)), dims, { keepDim: true });
    if (!isRecomputing()) this.#note(centre, variance, count);
    return [centre, variance];
  }

  /** Moves the running statistics. A batch that is computed again in backward was noted the first time. */
  #note(centre: Tensor, variance: Tensor, count: number): void {
    noGrad(() => {
      const move = (running: Tensor, value: Tensor): void =>
        copyInto(running, add(mul(running, 1 - this.momentum), mul(reshape(value, [this.size]), this.momentum)));
      move(this.running_mean, centre);
      move(this.running_var, mul(variance, count / (count - 1)));
      copyInto(this.num_batches_tracked, add(this.num_batches_tracked, 1));
    });
  }

  /** The running statistics are never trained. */
  override setTrainable(on: boolean): void {
    this.weight.setRequiresGrad(on);
    this.bias.setRequiresGrad(on);
  }

  override parameterShapes(): Record<string, readonly number[]> {
    const each = [this.size];
    return { weight: each, bias: each, running_mean: each, running_var: each, num_batches_tracked: [] };
  }
}
