import { matmul } from '../ops/linalg.js';
import { isRecording, keep } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { LoraLinear } from './lora-linear.js';
import { Factor, type LowRankOptions } from './low-rank.js';

/**
 * LoRA-XS on a linear layer: y += scale * ((drop(x) Aᵀ) R_wᵀ) Bᵀ with A [R, K] and B [N, R] frozen and R_w [R, R] trained. The branch multiplies by B R_w, so
 * that backward keeps the narrow product with A and nothing of x.
 */
export class LoraXsLinear extends LoraLinear {
  /** R_w; in a checkpoint its name is that of the reference implementation. */
  readonly lora_latent_mapping: Factor;
  #product: { readonly value: Tensor; readonly versions: string } | undefined;

  constructor(a: Tensor, b: Tensor, latent: Tensor, options: LowRankOptions) {
    super(a, b, undefined, options);
    this.lora_latent_mapping = new Factor(latent);
  }

  /** B R_w [N, R]; off the tape computed again only after one of them changed. */
  override get b(): Tensor {
    const { weight: b } = this.lora_B;
    const { weight: latent } = this.lora_latent_mapping;
    if (isRecording()) return matmul(b, latent);
    const versions = `${b.version} ${latent.version}`;
    if (this.#product?.versions !== versions) {
      this.#product?.value.dispose();
      this.#product = { value: keep(matmul(b, latent)), versions };
    }
    return this.#product.value;
  }

  override dispose(): void {
    super.dispose();
    this.#product?.value.dispose();
  }
}
