import { add, mul, sub } from '../ops/elementwise.js';
import type { LowRankFactors } from '../ops/lowrank.js';
import type { Tensor } from '../tensor.js';
import type { LayerParameters } from './adapter.js';
import { noBaseBias } from './lora-config.js';
import { LowRankPair } from './low-rank.js';

/** LoRA on a linear layer: y += scale * ((drop(x) Aᵀ) Bᵀ + b), computed in the accumulators of the base product. */
export class LoraLinear extends LowRankPair {
  override lowRank(training: boolean): LowRankFactors {
    const { bias } = this.lora_B;
    return {
      a: this.lora_A.weight,
      b: this.b,
      scale: this.scale,
      ...(bias === undefined ? {} : { bias }),
      ...(training && this.dropout > 0 ? { dropout: this.dropout, ...this.random.next() } : {}),
    };
  }

  override merge(_pristine: LayerParameters, merged: LayerParameters): LayerParameters {
    const { weight, bias } = merged as { weight: Tensor; bias?: Tensor };
    const own = this.lora_B.bias;
    if (own !== undefined && bias === undefined) throw noBaseBias();
    return {
      weight: add(weight, this.delta()),
      ...(bias === undefined ? {} : { bias: own === undefined ? bias : add(bias, mul(own, this.scale)) }),
    };
  }

  override unmerge(merged: LayerParameters): LayerParameters {
    const { weight, bias } = merged as { weight: Tensor; bias?: Tensor };
    const own = this.lora_B.bias;
    return {
      weight: sub(weight, this.delta()),
      ...(bias === undefined ? {} : { bias: own === undefined ? bias : sub(bias, mul(own, this.scale)) }),
    };
  }
}
