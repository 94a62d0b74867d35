import { add, cast, mul, sub } from '../ops/elementwise.js';
import { indexSelect } from '../ops/index-ops.js';
import { matmul } from '../ops/linalg.js';
import { reshape, transpose } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';
import { AdapterModule, type LayerCall, type LayerParameters } from './adapter.js';

/** A pair A [R, V], B [D, R] with its scale on an embedding [V, D]: delta W = scale * (B A)ᵀ. */
export abstract class EmbeddingPair extends AdapterModule {
  lora_embedding_A: Tensor;
  lora_embedding_B: Tensor;
  readonly #configured: number;
  #factor = 1;

  constructor(a: Tensor, b: Tensor, scale: number) {
    super();
    this.lora_embedding_A = a;
    this.lora_embedding_B = b;
    this.#configured = scale;
  }

  /** The configured scale times the factor set with `setScale`. */
  get scale(): number {
    return this.#configured * this.#factor;
  }

  override setScale(factor: number): void {
    this.#factor = factor;
  }

  /** scale * A[:, ids]ᵀ Bᵀ, [..., D], in the dtype of the adapter. */
  protected branch(ids: Tensor): Tensor {
    const columns = indexSelect(this.lora_embedding_A, 1, reshape(ids, [ids.size]));
    const rows = matmul(transpose(columns), transpose(this.lora_embedding_B));
    return mul(reshape(rows, [...ids.shape, this.lora_embedding_B.shape[0] ?? 0]), this.scale);
  }

  /** scale * (B A)ᵀ, [V, D]. */
  protected delta(): Tensor {
    return mul(matmul(transpose(this.lora_embedding_A), transpose(this.lora_embedding_B)), this.scale);
  }
}

/** LoRA on an embedding: out += scale * A[:, ids]ᵀ Bᵀ. Dropout is never applied here. */
export class LoraEmbedding extends EmbeddingPair {
  override forward({ x, next }: LayerCall): Tensor {
    const y = next(x);
    const branch = this.branch(x);
    return cast(add(cast(y, branch.dtype), branch), y.dtype);
  }

  override merge(_pristine: LayerParameters, merged: LayerParameters): LayerParameters {
    return { ...merged, weight: add(merged.weight as Tensor, this.delta()) };
  }

  override unmerge(merged: LayerParameters): LayerParameters {
    return { ...merged, weight: sub(merged.weight as Tensor, this.delta()) };
  }
}
