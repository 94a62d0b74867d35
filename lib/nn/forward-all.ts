import { lowRankLinears } from '../ops/lowrank.js';
import type { Tensor } from '../tensor.js';
import type { ForwardContext } from './context.js';
import type { Layer } from './module.js';

type Outputs<Layers extends readonly Layer[]> = { [Key in keyof Layers]: Tensor };

/**
 * What layers make of the same x [.., K], as calling each would: in one op where every one of them is a linear product alone (see `Layer.product`), whose
 * products are one job, and one more for the gradient of x. Results have the bits of single layers.
 */
export function forwardAll<const Layers extends readonly Layer[]>(layers: Layers, x: Tensor, context?: ForwardContext): Outputs<Layers> {
  const products = layers.map((layer) => layer.product(x, context));
  const known = products.filter((product) => product !== undefined);
  const outputs =
    known.length === layers.length
      ? lowRankLinears(
          x,
          known.map((terms) => terms()),
        )
      : layers.map((layer) => layer.forward(x, context));
  return outputs as Outputs<Layers>;
}
