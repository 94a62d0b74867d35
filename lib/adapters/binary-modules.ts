import { Linear } from '../nn/linear.js';
import type { Layer } from '../nn/module.js';
import { zeros } from '../ops/create.js';
import { dropout } from '../ops/dropout.js';
import { add, cast, mul } from '../ops/elementwise.js';
import { linear, matmul } from '../ops/linalg.js';
import { RandomSource } from '../random.js';
import type { Tensor } from '../tensor.js';
import { AdapterModule, type LayerCall, type LayerParameters } from './adapter.js';
import type { BinaryWeight } from './binary-weight.js';
import { type Affine, BottleneckBranch, SublayerBranches } from './sublayer-bottleneck.js';

export interface BinaryOptions {
  readonly scale: number;
  readonly dropout: number;
  /** Where dropout masks come from. */
  readonly seed: number;
  readonly path: string;
}

/** scale * drop(relu(x Dᵀ)) Uᵀ with D [h, K] and U [K, h] of few bits. */
class BinaryBottleneck extends BottleneckBranch {
  readonly down: BinaryWeight;
  readonly up: BinaryWeight;

  constructor(down: BinaryWeight, up: BinaryWeight, options: BinaryOptions) {
    super(up.shape[0] as number, 'f32', { activation: 'relu', scale: options.scale, dropout: options.dropout });
    this.down = down;
    this.up = up;
  }

  protected override products(): { down: Affine; up: Affine } {
    return { down: { weight: this.down.values() }, up: { weight: this.up.values() } };
  }
}

/** Bi-AdaptFormer: a bottleneck of few bits beside the MLP of a block, which reads the residual stream as it is before the norm. */
export class BinaryAdaptFormer extends SublayerBranches<BinaryBottleneck> {
  constructor(down: BinaryWeight, up: BinaryWeight, options: BinaryOptions) {
    super({ mlp: new BinaryBottleneck(down, up, options) }, 'residual', options.seed, options.path);
  }

  get weights(): { readonly down: BinaryWeight; readonly up: BinaryWeight } {
    return this.adapter_mlp as BinaryBottleneck;
  }

  override dispose(): void {
    super.dispose();
    for (const weight of [this.weights.down, this.weights.up]) weight.dispose();
  }
}

/** Bi-LoRA: y += scale * drop(x Dᵀ) Uᵀ on a linear layer, with D [h, K] and U [N, h] of few bits. */
export class BinaryLora extends AdapterModule {
  readonly adapter_down: BinaryWeight;
  readonly adapter_up: BinaryWeight;
  override readonly random: RandomSource;
  readonly #options: BinaryOptions;
  #factor = 1;

  constructor(down: BinaryWeight, up: BinaryWeight, options: BinaryOptions) {
    super();
    this.adapter_down = down;
    this.adapter_up = up;
    this.random = new RandomSource(options.seed, options.path);
    this.#options = options;
  }

  get weights(): { readonly down: BinaryWeight; readonly up: BinaryWeight } {
    return { down: this.adapter_down, up: this.adapter_up };
  }

  get scale(): number {
    return this.#options.scale * this.#factor;
  }

  override dispose(): void {
    super.dispose();
    for (const weight of [this.adapter_down, this.adapter_up]) weight.dispose();
  }

  override setScale(factor: number): void {
    this.#factor = factor;
  }

  override forward({ x, context, next }: LayerCall): Tensor {
    const down = this.adapter_down.values();
    const { dropout: p } = this.#options;
    const hidden = linear(cast(x, down.dtype), down);
    const dropped = context?.training && p > 0 ? dropout(hidden, p, this.random.next()) : hidden;
    const y = next(x);
    return add(y, cast(mul(linear(dropped, this.adapter_up.values()), this.scale), y.dtype));
  }

  /** scale * U D [N, K]. */
  delta(): Tensor {
    return mul(matmul(this.adapter_up.values(), this.adapter_down.values()), this.scale);
  }

  override merge(_pristine: LayerParameters, merged: LayerParameters): LayerParameters {
    return { ...merged, weight: add(merged.weight as Tensor, this.delta()) };
  }
}

/** A head of one bit a weight, without bias, in place of the model's own. */
export class BinaryHead extends AdapterModule {
  readonly adapter_head: BinaryWeight;
  readonly #hasBias: boolean;

  constructor(weight: BinaryWeight, layer: Layer) {
    super();
    this.adapter_head = weight;
    this.#hasBias = layer instanceof Linear && layer.bias !== undefined;
  }

  override dispose(): void {
    super.dispose();
    this.adapter_head.dispose();
  }

  override replaces(): LayerParameters {
    const weight = this.adapter_head.values();
    return { weight, ...(this.#hasBias ? { bias: zeros([weight.shape[0] as number], { dtype: weight.dtype }) } : {}) };
  }

  override merge(_pristine: LayerParameters, merged: LayerParameters): LayerParameters {
    return { ...merged, ...this.replaces() };
  }
}
