import { Module } from '../nn/module.js';
import { mul } from '../ops/elementwise.js';
import { matmul } from '../ops/linalg.js';
import { RandomSource } from '../random.js';
import type { Tensor } from '../tensor.js';
import { AdapterModule } from './adapter.js';
import type { TakenPair } from './taken-pair.js';

/** One factor of a pair: `weight`, and `bias` for a B that has one. */
export class Factor extends Module {
  weight: Tensor;
  bias?: Tensor;

  constructor(weight: Tensor, bias?: Tensor) {
    super();
    this.weight = weight;
    if (bias !== undefined) this.bias = bias;
  }
}

/** What every low-rank pair on a layer knows; `scale` is alpha / rank or alpha / sqrt(rank). */
export interface LowRankOptions {
  readonly scale: number;
  readonly dropout: number;
  /** Where dropout masks come from. */
  readonly seed: number;
  readonly path: string;
}

/** A pair A [R, K], B [N, R] with its scale: delta W = scale * B A. */
export abstract class LowRankPair extends AdapterModule {
  readonly lora_A: Factor;
  readonly lora_B: Factor;
  readonly dropout: number;
  override readonly random: RandomSource;
  override readonly taken: TakenPair | undefined;
  readonly #configured: number;
  #factor = 1;

  /** Owns `taken`, the part of the frozen weight that the pair started from, if it did. */
  constructor(a: Tensor, b: Tensor, bias: Tensor | undefined, options: LowRankOptions, taken?: TakenPair) {
    super();
    this.lora_A = new Factor(a);
    this.lora_B = new Factor(b, bias);
    this.dropout = options.dropout;
    this.random = new RandomSource(options.seed, options.path);
    this.#configured = options.scale;
    this.taken = taken;
  }

  /** The configured scale times the factor set with `setScale`. */
  get scale(): number {
    return this.#configured * this.#factor;
  }

  /** Multiplies the configured scale; a later call replaces an earlier one. */
  override setScale(factor: number): void {
    this.#factor = factor;
  }

  override dispose(): void {
    super.dispose();
    this.taken?.dispose();
  }

  /** B [N, R] as the branch multiplies by it, on the tape. */
  get b(): Tensor {
    return this.lora_B.weight;
  }

  /** scale * B A, [N, K]. */
  delta(): Tensor {
    return mul(matmul(this.b, this.lora_A.weight), this.scale);
  }
}
