import { linear, PackedWeight, packWeight, type WeightLayout } from '../ops/linalg.js';
import type { LowRankLayer } from '../ops/lowrank.js';
import { unscoped } from '../scope.js';
import { Tensor } from '../tensor.js';
import type { ForwardContext } from './context.js';
import type { Embedding } from './embedding.js';
import { type LayerOptions, uniformParameter } from './init.js';
import { Layer, type Module, type Parameter } from './module.js';
import { refuseTraining } from './quantized.js';

export interface LinearOptions extends LayerOptions {
  /** Whether there is a bias; default true. */
  readonly bias?: boolean;
}

/**
 * y = x W^T + b for x [..., inFeatures], weight [outFeatures, inFeatures], bias [outFeatures]. Made with random trainable weights (uniform within
 * 1 / sqrt(inFeatures)); while frozen, the weight is kept only in the packed layout of the matrix kernel, or in the blocks that it was loaded in.
 */
export class Linear extends Layer {
  readonly inFeatures: number;
  readonly outFeatures: number;
  weight!: PackedWeight | Tensor;
  bias?: Tensor;
  /** How a frozen float weight is packed, from its next packing on. */
  layout: WeightLayout = 'retile';
  readonly #hasBias: boolean;
  #owner: Embedding | undefined;

  constructor(inFeatures: number, outFeatures: number, options: LinearOptions = {}) {
    super(options.role);
    this.inFeatures = inFeatures;
    this.outFeatures = outFeatures;
    this.#hasBias = options.bias ?? true;
    if (options.init === 'none') return;
    const bound = 1 / Math.sqrt(inFeatures);
    this.weight = uniformParameter([outFeatures, inFeatures], bound, options, 0);
    if (this.#hasBias) this.bias = uniformParameter([outFeatures], bound, options, 1);
  }

  /** A head whose weight is the matrix of `embedding`: while frozen both share one packed copy, or the blocks; while trainable one tensor. Filled by `retie()`. */
  static tied(embedding: Embedding, options: Omit<LinearOptions, 'init' | 'bias'> = {}): Linear {
    const layer = new Linear(embedding.width, embedding.size, { ...options, bias: false, init: 'none' });
    layer.#owner = embedding;
    return layer;
  }

  /** The embedding that owns the weight of this layer, if it is tied to one. */
  get tiedTo(): Embedding | undefined {
    return this.#owner;
  }

  /** Takes the weight anew from the embedding it is tied to; needed after that tensor was replaced or changed. No effect on an untied layer. */
  retie(): void {
    if (this.#owner === undefined) return;
    const { weight } = this.#owner;
    if (this.weight instanceof PackedWeight) this.weight.dispose();
    if (weight instanceof PackedWeight) this.weight = weight.share();
    else if (weight.requiresGrad) this.weight = weight;
    else {
      const shared = this.#packed(weight);
      this.weight = shared;
      this.#owner.assign('weight', shared.share());
    }
  }

  override forward(x: Tensor, _context?: ForwardContext): Tensor {
    return linear(x, this.weight, this.bias);
  }

  override product(_x: Tensor, _context?: ForwardContext): (() => LowRankLayer) | undefined {
    if (this.forward !== Linear.prototype.forward) return undefined;
    return () => ({ weight: this.weight, ...(this.bias && { bias: this.bias }), adapters: [] });
  }

  override *ownParameters(): Iterable<[string, Tensor | PackedWeight]> {
    for (const [name, value] of super.ownParameters()) if (name !== 'weight' || this.#owner === undefined) yield [name, value];
  }

  override parameterShapes(): Record<string, readonly number[]> {
    const weight = this.#owner === undefined ? { weight: [this.outFeatures, this.inFeatures] } : {};
    return this.#hasBias ? { ...weight, bias: [this.outFeatures] } : weight;
  }

  override assign(name: string, value: Parameter): void {
    super.assign(name, value);
    if (name === 'weight') this.#pack();
  }

  override checkTrainable(): void {
    if (this.weight instanceof PackedWeight && this.weight.quantization !== undefined) refuseTraining('linear', this.weight);
  }

  override setTrainable(on: boolean): void {
    if (on) this.checkTrainable();
    if (this.#owner !== undefined) {
      this.#owner.setTrainable(on);
      this.retie();
    } else if (on) {
      if (this.weight instanceof PackedWeight) {
        const before = this.weight;
        this.weight = unscoped(() => before.unpack());
        before.dispose();
      }
      this.weight.setRequiresGrad(true);
    } else {
      this.#pack();
    }
    this.bias?.setRequiresGrad(on);
  }

  #pack(): void {
    const dense = this.weight;
    if (!(dense instanceof Tensor)) return;
    dense.setRequiresGrad(false);
    this.weight = this.#packed(dense);
    dense.dispose();
  }

  #packed(weight: Tensor): PackedWeight {
    return unscoped(() => packWeight(weight, { layout: this.layout }));
  }
}

/** Takes the weights of the tied layers of a network anew from their owners; needed after those were loaded or changed. */
export function retie(network: Module): void {
  for (const [, module] of network.namedModules()) if (module instanceof Linear) module.retie();
}
