import { activations } from '../nn/activations.js';
import { dropout } from '../ops/dropout.js';
import { add, cast, mul } from '../ops/elementwise.js';
import { linear, matmul } from '../ops/linalg.js';
import { reshape, unsqueeze } from '../ops/shape.js';
import { RandomSource } from '../random.js';
import type { Tensor } from '../tensor.js';
import { AdapterModule, type LayerCall, type LayerParameters } from './adapter.js';
import type { BottleneckConfig, Position } from './bottleneck-config.js';
import { Factor } from './low-rank.js';

/** The tensors of an adapter: D [M, in], U [out, M] and a learned factor [1], where the adapter has one. */
export interface BottleneckTensors {
  readonly down: Tensor;
  readonly up: Tensor;
  readonly scaling?: Tensor;
}

/** Where and how it computes. */
export interface LinearBottleneckOptions extends Pick<BottleneckConfig, 'nonLinearity' | 'dropout'> {
  readonly position: Position;
  /** The configured factor; 1 beside a learned one. */
  readonly scale: number;
  /** Where dropout masks come from. */
  readonly seed: number;
  readonly path: string;
}

/**
 * a(z) = s · act(drop(z) Dᵀ) Uᵀ at a linear layer F: F(x + a(x)), h + a(h) with h = F(x), or F(x) + a(x). Computed in the dtype of its tensors; what it adds is
 * rounded to the dtype of z before it is scaled.
 */
export class BottleneckLinear extends AdapterModule {
  readonly adapter_down: Factor;
  readonly adapter_up: Factor;
  readonly adapter_scaling?: Tensor;
  override readonly random: RandomSource;
  readonly position: Position;
  readonly #options: LinearBottleneckOptions;
  #factor = 1;

  constructor({ down, up, scaling }: BottleneckTensors, options: LinearBottleneckOptions) {
    super();
    this.adapter_down = new Factor(down);
    this.adapter_up = new Factor(up);
    if (scaling !== undefined) this.adapter_scaling = scaling;
    this.random = new RandomSource(options.seed, options.path);
    this.position = options.position;
    this.#options = options;
  }

  /** Multiplies the configured or learned factor; a later call replaces an earlier one. */
  override setScale(factor: number): void {
    this.#factor = factor;
  }

  override forward({ x, context, next }: LayerCall): Tensor {
    const training = context?.training ?? false;
    if (this.position === 'before') return next(add(x, this.#branch(x, training)));
    const y = next(x);
    return add(y, this.#branch(this.position === 'after' ? y : x, training));
  }

  #branch(z: Tensor, training: boolean): Tensor {
    const { nonLinearity, dropout: p } = this.#options;
    const own = cast(z, this.adapter_down.weight.dtype);
    const kept = training && p > 0 ? dropout(own, p, this.random.next()) : own;
    const inner = activations[nonLinearity]?.(linear(kept, this.adapter_down.weight)) as Tensor;
    return this.scaled(cast(linear(inner, this.adapter_up.weight), z.dtype));
  }

  /** x times the factor, in the dtype of x. */
  protected scaled(x: Tensor): Tensor {
    const fixed = this.#options.scale * this.#factor;
    const whole = fixed === 1 ? x : mul(x, fixed);
    return this.adapter_scaling === undefined ? whole : mul(whole, cast(this.adapter_scaling, x.dtype));
  }
}

/** An adapter without activation: s U D is a matrix, which the weight of the layer can take up. */
export class LinearBottleneck extends BottleneckLinear {
  override merge(_pristine: LayerParameters, merged: LayerParameters): LayerParameters {
    const { weight, bias } = merged as { weight: Tensor; bias?: Tensor };
    const delta = this.scaled(matmul(this.adapter_up.weight, this.adapter_down.weight));
    if (this.position === 'parallel') return { ...merged, weight: add(weight, delta) };
    if (this.position === 'before') return { ...merged, weight: add(weight, matmul(weight, delta)) };
    return {
      weight: add(weight, matmul(delta, weight)),
      ...(bias && { bias: add(bias, reshape(matmul(delta, unsqueeze(bias, 1)), bias.shape)) }),
    };
  }
}
