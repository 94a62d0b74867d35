import { ConfigError, InvalidArgumentError, throwIfAborted } from '../errors.js';
import { cast, mul } from '../ops/elementwise.js';
import { reshape } from '../ops/shape.js';
import { disposeTensors, scope, synchronize, unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { requireFinite } from './finite.js';
import type { InitContext, StartLayer } from './init.js';
import { inMode } from './mode.js';
import { observing } from './observe.js';

export interface GradientOptions {
  /** Batches to look at, at most. Default all. */
  readonly batches?: number;
  /** Bytes of the sums that one pass over the data collects; a single layer may need more. Default 2 GiB. */
  readonly groupBytes?: number;
  /** Whether gradients of batches are averaged or added up. */
  readonly reduce: 'mean' | 'sum';
}

/** What is kept of a layer's gradient: tensors that grow by a term linear in it with every backward pass. */
export interface GradientSum {
  /** Zeros in the dtype of adapters. */
  create(layer: StartLayer): Tensor[];
  /** Elements of those. */
  size(layer: StartLayer): number;
  /** Takes in dyᵀ x for x [M, K] and dy [M, N] in the dtype of the sums. */
  add(sums: readonly Tensor[], layer: StartLayer, x: Tensor, dy: Tensor): void;
}

/** The sums of one layer; the receiver owns them. */
interface LayerSums {
  readonly layer: StartLayer;
  readonly sums: readonly Tensor[];
}

const kGroupBytes = 2 ** 31;

/** Layers in their order, in groups whose sums fit in `limit` elements together. */
function groupsOf(layers: readonly StartLayer[], size: GradientSum['size'], limit: number): StartLayer[][] {
  const groups: StartLayer[][] = [];
  let used = Infinity;
  for (const layer of layers) {
    const own = size(layer);
    if (used + own > limit) {
      groups.push([]);
      used = 0;
    }
    groups.at(-1)?.push(layer);
    used += own;
  }
  return groups;
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
 * Sums over batches of something linear in the gradient of each batch's loss with respect to frozen weights. Nothing else gets a gradient, and the network is left
 * as it was; it is in training mode meanwhile. Layers are taken in groups whose sums fit in `groupBytes`, each with a pass over the data that goes back no further
 * than its lowest layer.
 *
 * Throws `InvalidArgumentError` for no batch or options that mean none, `ConfigError` for a layer that the loss does not depend on, `NonFiniteError` for a gradient
 * that is not finite, `CancelledError` when the signal fires.
 */
export async function* gradientSums(
  layers: readonly StartLayer[],
  context: InitContext,
  options: GradientOptions,
  kept: GradientSum,
): AsyncGenerator<LayerSums, void, undefined> {
  const { batches: most = Infinity, groupBytes = kGroupBytes, reduce } = options;
  if (most !== Infinity && !(Number.isSafeInteger(most) && most > 0))
    throw new InvalidArgumentError(`weight gradients: batches must be a positive whole number; got ${most}`);
  const batches = await firstBatches(context, most);
  const groups = groupsOf(layers, kept.size, groupBytes / (context.dtype === 'f64' ? 8 : 4));
  const total = groups.length * batches.length;
  for (const [index, group] of groups.entries()) {
    const progress = (batch: number): void =>
      context.onProgress({ done: index * batches.length + batch + 1, total, path: `gradients of batch ${batch + 1}` });
    yield* groupSums(group, batches, context, reduce === 'mean' ? 1 / batches.length : 1, kept, progress);
  }
}

async function* groupSums(
  group: readonly StartLayer[],
  batches: readonly unknown[],
  context: InitContext,
  scale: number,
  kept: GradientSum,
  progress: (batch: number) => void,
): AsyncGenerator<LayerSums, void, undefined> {
  const byPath = new Map(group.map((layer) => [layer.path, layer]));
  const found = new Map<string, readonly Tensor[]>();
  const onGradient = (path: string, x: Tensor, dy: Tensor): void => {
    const layer = byPath.get(path) as StartLayer;
    const sums = found.get(path) ?? unscoped(() => kept.create(layer));
    found.set(path, sums);
    const rows = (value: Tensor): Tensor => {
      const width = value.shape.at(-1) ?? 1;
      return cast(reshape(value, [value.size / width, width]), context.dtype);
    };
    kept.add(sums, layer, rows(x), mul(rows(dy), scale));
  };
  try {
    for (const [index, batch] of batches.entries()) {
      throwIfAborted(context.signal, 'weight gradients');
      await inMode(context.network, true, () =>
        observing(context.network, [...byPath.keys()], { onGradient }, () => passBack(batch, context)),
      );
      progress(index);
    }
    for (const layer of group) {
      const sums = found.get(layer.path);
      if (sums === undefined)
        throw new ConfigError(
          `weight gradients: "${layer.path}" got none in ${batches.length} batches: the loss does not depend on it; leave it out of the targets`,
        );
      await requireFinite(sums, `weight gradients: that of "${layer.path}"`);
      found.delete(layer.path);
      yield { layer, sums };
    }
  } finally {
    for (const sums of found.values()) disposeTensors(sums);
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
