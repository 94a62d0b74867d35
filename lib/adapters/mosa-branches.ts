import { philox } from '../data/shuffle.js';
import { add, mul, sub } from '../ops/elementwise.js';
import { matmul } from '../ops/linalg.js';
import type { LowRankFactors } from '../ops/lowrank.js';
import { type Draw, RandomSource } from '../random.js';
import type { DType, Tensor } from '../tensor.js';
import { AdapterModule, type LayerParameters } from './adapter.js';
import type { LowRankOptions } from './low-rank.js';
import { type MaybeSplit, mergedOf, versionOf } from './split-affine.js';
import { type Affine, BottleneckBranch, type BottleneckOptions, type BottleneckPass } from './sublayer-bottleneck.js';

/** The experts of one pass, each of the n equally likely: one for the first product, one for the second. */
export function drawExperts({ seed, stream }: Draw, experts: number): { readonly down: number; readonly up: number } {
  const [first, second] = philox(seed, stream, 0n);
  const below = (bits: number): number => Math.floor((bits / 2 ** 32) * experts);
  return { down: below(first), up: below(second) };
}

/** A bottleneck that takes the experts of a draw in training, and all of them merged else. */
export class MosaBottleneck extends BottleneckBranch {
  readonly down: MaybeSplit;
  readonly up: MaybeSplit;
  readonly #experts: number;

  constructor(down: MaybeSplit, up: MaybeSplit, experts: number, shape: { width: number; dtype: DType }, options: BottleneckOptions) {
    super(shape.width, shape.dtype, options);
    this.down = down;
    this.up = up;
    this.#experts = experts;
  }

  protected override products({ training, random }: BottleneckPass): { down: Affine; up: Affine } {
    if (!training) return { down: mergedOf(this.down), up: mergedOf(this.up) };
    const { down, up } = drawExperts(random.next(), this.#experts);
    return { down: versionOf(this.down, down), up: versionOf(this.up, up) };
  }
}

/** The same of a low-rank branch: y += scale * (drop(x) Aᵀ) Bᵀ. */
export class MosaLinear extends AdapterModule {
  readonly lora_A: MaybeSplit;
  readonly lora_B: MaybeSplit;
  override readonly random: RandomSource;
  readonly #experts: number;
  readonly #options: LowRankOptions;
  #factor = 1;

  constructor(a: MaybeSplit, b: MaybeSplit, experts: number, options: LowRankOptions) {
    super();
    this.lora_A = a;
    this.lora_B = b;
    this.#experts = experts;
    this.#options = options;
    this.random = new RandomSource(options.seed, options.path);
  }

  get #scale(): number {
    return this.#options.scale * this.#factor;
  }

  override setScale(factor: number): void {
    this.#factor = factor;
  }

  override lowRank(training: boolean): LowRankFactors {
    if (!training) return { a: mergedOf(this.lora_A).weight, b: mergedOf(this.lora_B).weight, scale: this.#scale };
    const { down, up } = drawExperts(this.random.next(), this.#experts);
    const { dropout } = this.#options;
    return {
      a: versionOf(this.lora_A, down).weight,
      b: versionOf(this.lora_B, up).weight,
      scale: this.#scale,
      ...(dropout > 0 ? { dropout, ...this.random.next() } : {}),
    };
  }

  #delta(): Tensor {
    return mul(matmul(mergedOf(this.lora_B).weight, mergedOf(this.lora_A).weight), this.#scale);
  }

  override merge(_pristine: LayerParameters, merged: LayerParameters): LayerParameters {
    return { ...merged, weight: add(merged.weight as Tensor, this.#delta()) };
  }

  override unmerge(merged: LayerParameters): LayerParameters {
    return { ...merged, weight: sub(merged.weight as Tensor, this.#delta()) };
  }
}
