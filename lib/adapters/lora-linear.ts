import { add, sub } from '../ops/elementwise.js';
import type { LowRankFactors } from '../ops/lowrank.js';
import type { LayerParameters } from './adapter.js';
import { foldPair } from './fold-pair.js';
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
    return foldPair(this, merged, add);
  }

  override unmerge(merged: LayerParameters): LayerParameters {
    return foldPair(this, merged, sub);
  }
}
