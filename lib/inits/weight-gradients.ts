import { ConfigError, InvalidArgumentError, NonFiniteError, throwIfAborted } from '../errors.js';
import { zeros } from '../ops/create.js';
import { add, cast, mul } from '../ops/elementwise.js';
import { matmul } from '../ops/linalg.js';
import { copyInto, narrow, reshape, transpose } from '../ops/shape.js';
import { nonFiniteCount } from '../optim/clip.js';
import { disposeTensors, scope, synchronize, unscoped } from '../scope.js';
import type { DType, Tensor } from '../tensor.js';
import type { InitContext, StartLayer } from './init.js';
import { observing } from './observe.js';

export interface WeightGradientOptions {
  /** Batches to look at, at most. Default all. */
  readonly batches?: number;
  /** Bytes of the sums that one pass over the data collects; a single layer may need more. Default 2 GiB. */
  readonly groupBytes?: number;
  /** Whether gradients of batches are averaged or added up. */
  readonly reduce: 'mean' | 'sum';
}

/** The gradient of one frozen weight, [N, K]; the receiver owns it. */
export interface WeightGradient {
  readonly path: string;
  readonly gradient: Tensor;
}

const kGroupBytes = 2 ** 31;
/** Of a gradient, the rows that are formed at a time: enough for full speed. */
const kSliceRows = 256;

const bytesOf = ({ layer }: StartLayer, dtype: DType): number => layer.outFeatures * layer.inFeatures * (dtype === 'f64' ? 8 : 4);

/** Layers in their order, in groups whose gradients fit in `limit` bytes together. */
function groupsOf(layers: readonly StartLayer[], dtype: DType, limit: number): StartLayer[][] {
  const groups: StartLayer[][] = [];
  let used = Infinity;
  for (const layer of layers) {
    const bytes = bytesOf(layer, dtype);
    if (used + bytes > limit) {
      groups.push([]);
      used = 0;
    }
    groups.at(-1)?.push(layer);
    used += bytes;
  }
  return groups;
}

/** total += scale dyᵀ x for dy [.., N] and x [.., K], a few rows of the total [N, K] at a time. */
function accumulate(total: Tensor, x: Tensor, dy: Tensor, scale: number): void {
  const [outputs = 0, inputs = 0] = total.shape;
  const rows = x.size / inputs;
  const wide = cast(reshape(x, [rows, inputs]), total.dtype);
  const scaled = transpose(mul(cast(reshape(dy, [rows, outputs]), total.dtype), scale));
  for (let start = 0; start < outputs; start += kSliceRows) {
    const count = Math.min(kSliceRows, outputs - start);
    scope(() => {
      const slice = narrow(total, 0, start, count);
      copyInto(slice, add(slice, matmul(narrow(scaled, 0, start, count), wide)));
    });
  }
}

async function firstBatches({ data }: InitContext, most: number): Promise<unknown[]> {
  if (data === undefined)
    throw new ConfigError('weight gradients: there are no data to look at; expected batches in the option "data" of attach');
  const found: unknown[] = [];
  for await (const batch of data.batches()) {
    found.push(batch);
    if (found.length === most) break;
  }
  return found;
}

/**
 * For each layer the gradient G [N, K] of a batch's loss with respect to its frozen weight, averaged or summed over the batches: G = dyᵀ x, formed and summed in
 * the dtype of adapters, whatever the network computes in. Nothing else gets a gradient, and the network is left as it was. It is in training mode meanwhile.
 *
 * Layers are taken in groups whose sums fit in `groupBytes`, each with a pass over the data that goes back no further than its lowest layer. Beside the sums and
 * the inputs of the group's layers, held between forward and backward, a few rows of one gradient are in memory.
 *
 * Throws `InvalidArgumentError` for no batch or options that mean none, `ConfigError` for a layer that the loss does not depend on, `NonFiniteError` for a gradient
 * that is not finite, `CancelledError` when the signal fires.
 */
export async function* weightGradients(
  layers: readonly StartLayer[],
  context: InitContext,
  options: WeightGradientOptions,
): AsyncGenerator<WeightGradient, void, undefined> {
  const { batches: most = Infinity, groupBytes = kGroupBytes, reduce } = options;
  if (most !== Infinity && !(Number.isSafeInteger(most) && most > 0))
    throw new InvalidArgumentError(`weight gradients: batches must be a positive whole number; got ${most}`);
  const batches = await firstBatches(context, most);
  const groups = groupsOf(layers, context.dtype, groupBytes);
  const total = groups.length * batches.length;
  for (const [index, group] of groups.entries()) {
    const progress = (batch: number): void =>
      context.onProgress({ done: index * batches.length + batch + 1, total, path: `gradients of batch ${batch + 1}` });
    yield* groupGradients(group, batches, context, reduce === 'mean' ? 1 / batches.length : 1, progress);
  }
}

async function* groupGradients(
  group: readonly StartLayer[],
  batches: readonly unknown[],
  context: InitContext,
  scale: number,
  progress: (batch: number) => void,
): AsyncGenerator<WeightGradient, void, undefined> {
  const totals = new Map<string, Tensor>();
  const onGradient = (path: string, x: Tensor, dy: Tensor): void => {
    const total = totals.get(path) ?? unscoped(() => zeros([dy.shape.at(-1) ?? 0, x.shape.at(-1) ?? 0], { dtype: context.dtype }));
    totals.set(path, total);
    accumulate(total, x, dy, scale);
  };
  try {
    const paths = group.map(({ path }) => path);
    for (const [index, batch] of batches.entries()) {
      throwIfAborted(context.signal, 'weight gradients');
      await training(context, () => observing(context.network, paths, { onGradient }, () => passBack(batch, context)));
      progress(index);
    }
    for (const path of paths) {
      const gradient = totals.get(path);
      if (gradient === undefined)
        throw new ConfigError(
          `weight gradients: "${path}" got none in ${batches.length} batches: the loss does not depend on it; leave it out of the targets`,
        );
      await checkFinite(path, gradient);
      totals.delete(path);
      yield { path, gradient };
    }
  } finally {
    disposeTensors(totals.values());
  }
}

/** One backward pass of the loss of a batch, and the end of its work. */
async function passBack(batch: unknown, { data }: InitContext): Promise<void> {
  scope(() => {
    const loss = data?.loss(batch);
    // A loss that depends on none of the layers has no way back; each of them is then told of by name.
    if (loss?.requiresGrad) loss.backward();
  });
  await synchronize();
}

async function checkFinite(path: string, gradient: Tensor): Promise<void> {
  const count = await scope(() => nonFiniteCount([gradient]).item());
  if (count > 0)
    throw new NonFiniteError(
      `weight gradients: that of "${path}" is not finite; got ${count} of ${gradient.size} elements NaN or infinite, expected finite losses and weights`,
    );
}

/** Runs `work` with the network in training mode, and puts every module back into its own. */
async function training(context: InitContext, work: () => Promise<void>): Promise<void> {
  const before = [...context.network.namedModules()].map(([, module]) => [module, module.training] as const);
  context.network.train();
  try {
    await work();
  } finally {
    for (const [module, mode] of before) module.training = mode;
  }
}
