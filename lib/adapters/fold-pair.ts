import type { add } from '../ops/elementwise.js';
import { mul } from '../ops/elementwise.js';
import type { Tensor } from '../tensor.js';
import type { LayerParameters } from './adapter.js';
import { noBaseBias } from './lora-config.js';
import type { LowRankPair } from './low-rank.js';

/** Weight and bias of a layer with the change of a pair added (`add`) or taken out (`sub`). Throws `AdapterError` for a bias that the layer has no place for. */
export function foldPair(pair: LowRankPair, parameters: LayerParameters, combine: typeof add): LayerParameters {
  const { weight, bias } = parameters as { weight: Tensor; bias?: Tensor };
  const own = pair.lora_B.bias;
  if (own !== undefined && bias === undefined) throw noBaseBias();
  return {
    weight: combine(weight, pair.delta()),
    ...(bias === undefined ? {} : { bias: own === undefined ? bias : combine(bias, mul(own, pair.scale)) }),
  };
}
