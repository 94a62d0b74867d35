import { AdapterError, throwIfAborted } from '../../errors.js';
import { cast } from '../../ops/elementwise.js';
import { copyInto } from '../../ops/shape.js';
import { noGrad, scope } from '../../scope.js';
import type { Tensor } from '../../tensor.js';
import type { AdapterModule } from '../adapter.js';
import type { AdapterSet, Attached } from '../adapter-set.js';
import { layersOf } from '../inject.js';
import { lora } from '../lora.js';
import { LoraEmbedding } from '../lora-embedding.js';
import { LoraLinear } from '../lora-linear.js';
import { resolveOptions } from '../resolve-config.js';
import { selectTargets } from '../targets.js';
import { combinedRank, combineFactors, type WeightedPair } from './factors.js';
import { type CombineOptions, type CombinePart, combinationOf } from './options.js';

interface Layer {
  readonly path: string;
  readonly pairs: readonly WeightedPair[];
  readonly rank: number;
}

/**
 * Makes a new LoRA adapter `name` out of adapters that are on the network. Its scale is 1 on every layer (alpha equals the rank, without rsLoRA), and its
 * parts stay as they are. Layers that only some of the adapters have are combined from those.
 *
 * Throws `AdapterError` for a name that is taken or unknown, for adapters that are more than low-rank pairs (DoRA, trained biases or copies), and for
 * different ranks where factors are added.
 */
export async function combineAdapters(
  adapters: AdapterSet,
  name: string,
  parts: readonly CombinePart[],
  options: CombineOptions = {},
): Promise<Attached> {
  const combination = combinationOf(options);
  if (adapters.names.includes(name))
    throw new AdapterError(`combine: there is an adapter "${name}" already; give the new one another name`);
  if (parts.length === 0) throw new AdapterError('combine: needs at least one adapter; got none');
  for (const { adapter, weight } of parts) {
    if (!Number.isFinite(weight)) throw new AdapterError(`combine: the weight of "${adapter}" must be a finite number; got ${weight}`);
  }
  const given = parts.map(({ adapter }) => adapter);
  if (new Set(given).size !== given.length) throw new AdapterError(`combine: an adapter is repeated; got ${given.join(', ')}`);

  const layers: Layer[] = [...pairsByPath(adapters, parts)].map(([path, pairs]) => {
    const ranks = pairs.map(({ a }) => a.shape[0] ?? 0);
    if (combination.form === 'factors' && new Set(ranks).size > 1) {
      throw new AdapterError(
        `combine: "${combination.type}" adds factors of one rank; got ranks ${ranks.join(', ')} on "${path}", expected equal ranks (cat and the svd types take any)`,
      );
    }
    const shape = [pairs[0]?.b.shape[0] ?? 0, pairs[0]?.a.shape[1] ?? 0] as const;
    return { path, pairs, rank: combinedRank(ranks, shape, combination) };
  });
  const ranks = layers.map(({ rank }) => rank);
  const rank = Math.max(...ranks);
  const pattern = Object.fromEntries(layers.filter((layer) => layer.rank !== rank).map((layer) => [`^${layer.path}`, layer.rank]));
  const config = { rank, alpha: rank, rankPattern: pattern, alphaPattern: pattern, targets: targetsOf(adapters, layers) };
  const active = adapters.active;
  const attached = await adapters.add(resolveOptions(lora, config), {
    name,
    activate: false,
    ...(options.signal && { signal: options.signal }),
  });
  try {
    for (const layer of layers) {
      throwIfAborted(options.signal, 'combine');
      await scope(async () => {
        const { a, b } = await combineFactors(layer.path, layer.pairs, combination, layer.rank);
        const module = attached.placements.find(({ path }) => path === layer.path)?.module as AdapterModule;
        const own = pairOf(module) as { a: Tensor; b: Tensor };
        noGrad(() => {
          copyInto(own.a, cast(a, own.a.dtype));
          copyInto(own.b, cast(b, own.b.dtype));
        });
      });
    }
  } catch (error) {
    adapters.remove(name);
    adapters.activate(active);
    throw error;
  }
  if (options.activate ?? true) adapters.activate([name]);
  return attached;
}

function pairOf(module: AdapterModule): { readonly a: Tensor; readonly b: Tensor; readonly scale: number } | undefined {
  if (module instanceof LoraEmbedding) return { a: module.lora_embedding_A, b: module.lora_embedding_B, scale: module.scale };
  if (module instanceof LoraLinear && module.lora_B.bias === undefined)
    return { a: module.lora_A.weight, b: module.b, scale: module.scale };
  return undefined;
}

function pairsByPath(adapters: AdapterSet, parts: readonly CombinePart[]): Map<string, WeightedPair[]> {
  const found = new Map<string, WeightedPair[]>();
  for (const { adapter, weight } of parts) {
    for (const { path, module } of adapters.get(adapter).placements) {
      const pair = pairOf(module);
      if (pair === undefined) {
        throw new AdapterError(
          `combine: adapter "${adapter}" has more than a low-rank pair on "${path}" (${module.constructor.name}); expected LoRA without DoRA, biases and trained copies`,
        );
      }
      const list = found.get(path) ?? [];
      found.set(path, list);
      list.push({ adapter, weight, ...pair });
    }
  }
  return found;
}

/** The ends of the paths where they mean exactly these layers, else the whole paths. */
function targetsOf(adapters: AdapterSet, layers: readonly Layer[]): string[] {
  const paths = new Set(layers.map(({ path }) => path));
  const ends = [...new Set([...paths].map((path) => path.slice(path.lastIndexOf('.') + 1)))].sort();
  const matched = selectTargets(lora.name, layersOf(adapters.network), { targets: ends, kinds: lora.kinds });
  return matched.length === paths.size && matched.every(({ path }) => paths.has(path)) ? ends : [...paths];
}
