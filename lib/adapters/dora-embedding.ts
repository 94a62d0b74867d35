import type { Embedding } from '../nn/embedding.js';
import { dense } from '../nn/quantized.js';
import { add, cast, div, mul, sub } from '../ops/elementwise.js';
import { matmul } from '../ops/linalg.js';
import { transpose } from '../ops/shape.js';
import { keep, noGrad, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { LayerCall, LayerParameters } from './adapter.js';
import { EmbeddingPair } from './lora-embedding.js';
import { shiftedNorms, squaredColumnNorms } from './shifted-norms.js';

/** DoRA on an embedding: the columns of V = W + scale * (B A)ᵀ get the magnitudes m [D]; norms run over the vocabulary. */
export class DoraEmbedding extends EmbeddingPair {
  lora_magnitude_vector: Tensor;
  readonly #base: Embedding;
  readonly #squared: Tensor;
  #norm: { readonly value: Tensor; readonly versions: string } | undefined;

  constructor(a: Tensor, b: Tensor, scale: number, base: Embedding) {
    super(a, b, scale);
    this.#base = base;
    this.#squared = keep(squaredColumnNorms(base.weight));
    this.lora_magnitude_vector = keep(this.#freshNorm()).setRequiresGrad(true);
  }

  /** |V|, [D]: computed again only after A, B or the scale changed. */
  norm(): Tensor {
    const versions = `${this.lora_embedding_A.version} ${this.lora_embedding_B.version} ${this.scale}`;
    if (this.#norm?.versions !== versions) {
      this.#norm?.value.dispose();
      this.#norm = { value: keep(this.#freshNorm()), versions };
    }
    return this.#norm.value;
  }

  #freshNorm(): Tensor {
    const { lora_embedding_A: a, lora_embedding_B: b } = this;
    return scope(() =>
      noGrad(() => shiftedNorms(this.#squared, transpose(matmul(a, cast(dense(this.#base.weight), a.dtype))), a, b, this.scale)),
    );
  }

  override forward({ x, base, next, first }: LayerCall): Tensor {
    const c = div(this.lora_magnitude_vector, this.norm());
    const below = next(x);
    const bare = cast(first ? below : base.forward(x), c.dtype);
    const own = mul(c, add(bare, this.branch(x)));
    return cast(first ? own : add(cast(below, c.dtype), sub(own, bare)), below.dtype);
  }

  override merge(pristine: LayerParameters, merged: LayerParameters): LayerParameters {
    const before = pristine.weight as Tensor;
    const own = mul(div(this.lora_magnitude_vector, this.norm()), add(before, this.delta()));
    return { ...merged, weight: merged.weight === before ? own : add(merged.weight as Tensor, sub(own, before)) };
  }

  override dispose(): void {
    super.dispose();
    this.#squared.dispose();
    this.#norm?.value.dispose();
  }
}
