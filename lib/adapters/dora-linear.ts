import type { Linear } from '../nn/linear.js';
import { dropout } from '../ops/dropout.js';
import { add, cast, div, mul, sub } from '../ops/elementwise.js';
import { linear } from '../ops/linalg.js';
import { lowRankLinear } from '../ops/lowrank.js';
import { transpose, unsqueeze } from '../ops/shape.js';
import { keep, noGrad, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { LayerCall, LayerParameters } from './adapter.js';
import { type LowRankOptions, LowRankPair } from './low-rank.js';
import { shiftedNorms, squaredRowNorms } from './shifted-norms.js';

/**
 * DoRA on a linear layer: W' = diag(m / |V|) V with V = W + scale * B A and |V| its row norms, which count as constants in backward (section 4.3 of
 * "DoRA: Weight-Decomposed Low-Rank Adaptation"). m [N] starts as |V|, so a pair with B A = 0 starts as the identity.
 */
export class DoraLinear extends LowRankPair {
  lora_magnitude_vector: Tensor;
  readonly #base: Linear;
  readonly #squared: Tensor;
  #norm: { readonly value: Tensor; readonly versions: string } | undefined;

  constructor(a: Tensor, b: Tensor, options: LowRankOptions, base: Linear) {
    super(a, b, undefined, options);
    this.#base = base;
    this.#squared = keep(scope(() => squaredRowNorms(base.weight)));
    this.lora_magnitude_vector = keep(this.#freshNorm()).setRequiresGrad(true);
  }

  /** |V|, [N]: computed again only after A, B or the scale changed. */
  norm(): Tensor {
    const versions = `${this.lora_A.weight.version} ${this.lora_B.weight.version} ${this.scale}`;
    if (this.#norm?.versions !== versions) {
      this.#norm?.value.dispose();
      this.#norm = { value: keep(this.#freshNorm()), versions };
    }
    return this.#norm.value;
  }

  #freshNorm(): Tensor {
    const { weight: a } = this.lora_A;
    return scope(() =>
      noGrad(() => shiftedNorms(this.#squared, transpose(linear(a, this.#base.weight)), a, this.lora_B.weight, this.scale)),
    );
  }

  /**
   * y = next(x) + (c - 1) * x Wᵀ + c * scale * (x Aᵀ) Bᵀ with c = m / |V|. Dropout, in training, acts on x in the two terms of the adapter, not in next(x).
   */
  override forward({ x, context, next, first }: LayerCall): Tensor {
    const { weight, bias } = this.#base;
    const c = div(this.lora_magnitude_vector, this.norm());
    const factors = { a: this.lora_A.weight, b: this.lora_B.weight, scale: this.scale };
    const drops = context?.training === true && this.dropout > 0;
    const scaled = (y: Tensor): Tensor => cast(mul(cast(y, c.dtype), c), y.dtype);
    if (first && !drops) {
      const y = scaled(lowRankLinear(x, weight, { adapters: [factors] }));
      return bias === undefined ? y : add(y, bias);
    }
    const input = drops ? dropout(x, this.dropout, this.random.next()) : x;
    return add(next(x), sub(scaled(lowRankLinear(input, weight, { adapters: [factors] })), linear(input, weight)));
  }

  override merge(pristine: LayerParameters, merged: LayerParameters): LayerParameters {
    const before = pristine.weight as Tensor;
    const c = unsqueeze(div(this.lora_magnitude_vector, this.norm()), 1);
    const own = mul(c, add(before, this.delta()));
    return { ...merged, weight: merged.weight === before ? own : add(merged.weight as Tensor, sub(own, before)) };
  }

  override dispose(): void {
    super.dispose();
    this.#squared.dispose();
    this.#norm?.value.dispose();
  }
}
