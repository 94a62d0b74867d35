import { zeros } from '../ops/create.js';
import { add } from '../ops/elementwise.js';
import { matmul } from '../ops/linalg.js';
import { copyInto, narrow, transpose } from '../ops/shape.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { type GradientOptions, type GradientSum, gradientSums } from './gradient-sums.js';
import type { InitContext, StartLayer } from './init.js';

/** The gradient of one frozen weight, [N, K]; the receiver owns it. */
interface WeightGradient {
  readonly path: string;
  readonly gradient: Tensor;
}

/** Of a gradient, the rows that are formed at a time: enough for full speed. */
const kSliceRows = 256;

/** total += dyᵀ x for total [N, K], a few of its rows at a time. */
function accumulate(total: Tensor, x: Tensor, dy: Tensor): void {
  const [outputs = 0] = total.shape;
  const turned = transpose(dy);
  for (let start = 0; start < outputs; start += kSliceRows) {
    const count = Math.min(kSliceRows, outputs - start);
    scope(() => {
      const slice = narrow(total, 0, start, count);
      copyInto(slice, add(slice, matmul(narrow(turned, 0, start, count), x)));
    });
  }
}

/** Gradients kept whole: one tensor [N, K] a layer. */
export const wholeGradient = ({ dtype }: InitContext): GradientSum => ({
  create: ({ layer }) => [zeros([layer.outFeatures, layer.inFeatures], { dtype })],
  size: ({ layer }) => layer.outFeatures * layer.inFeatures,
  add: ([total], _layer, x, dy) => accumulate(total as Tensor, x, dy),
});

/**
 * For each layer the gradient G [N, K] of a batch's loss with respect to its frozen weight, averaged or summed over the batches: G = dyᵀ x, formed and summed in
 * the dtype of adapters, whatever the network computes in. Beside the sums of a group of layers and the inputs of these layers, held between forward and backward,
 * a few rows of one gradient are in memory. For passes, groups and errors see `gradientSums`.
 */
export async function* weightGradients(
  layers: readonly StartLayer[],
  context: InitContext,
  options: GradientOptions,
): AsyncGenerator<WeightGradient, void, undefined> {
  for await (const { layer, sums } of gradientSums(layers, context, options, wholeGradient(context)))
    yield { path: layer.path, gradient: sums[0] as Tensor };
}
