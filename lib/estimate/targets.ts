import type { Placement } from '../adapters/adapter.js';
import { AdapterSet } from '../adapters/adapter-set.js';
import { tensorsOf } from '../adapters/adapter-table.js';
import { candidatesOf } from '../adapters/inject.js';
import { type ResolvedConfig, targetOptions } from '../adapters/resolve-config.js';
import { selectTargets } from '../adapters/targets.js';
import { kDtypeBytes } from '../dtype.js';
import type { JsonObject } from '../io/json.js';
import type { CausalLanguageModel } from '../models/causal-language-model.js';
import { createNetwork } from '../models/registry.js';
import type { Tensor } from '../tensor.js';
import { blockOf } from './partial-network.js';

/** Which blocks of the whole model an adapter is on, and what it is made of. */
export interface AdapterPlan {
  readonly blocks: number;
  /** Numbers of the blocks with an adapted layer, ascending. */
  readonly adapted: readonly number[];
  /** Of all parameters to train; undefined where the method must see weights before it knows. */
  readonly size: { readonly parameters: number; readonly bytes: number } | undefined;
  /** Bytes of what it holds beside them: factors that are not trained. */
  readonly frozen: number;
  /** Bytes of the part that it took out of the frozen weights. */
  readonly taken: number;
}

/** Looks at the network of a config without weights. Throws as `attach` does for targets that match nothing. */
export async function planAdapter(config: JsonObject, adapter: ResolvedConfig): Promise<AdapterPlan> {
  const network = createNetwork(config);
  const set = new AdapterSet(network);
  try {
    const adapted = adaptedBlocks(network, adapter);
    return { blocks: network.shape.layers, adapted, ...(await sizeOf(set, adapter)) };
  } finally {
    set.dispose();
    network.dispose();
  }
}

/** Virtual tokens go through every block. */
function adaptedBlocks(network: CausalLanguageModel, { method, config }: ResolvedConfig): number[] {
  if (method.whole !== undefined) return Array.from({ length: network.shape.layers }, (_, number) => number);
  const targets = selectTargets(method.name, candidatesOf(network, method), targetOptions(method, config));
  const numbers = new Set(targets.map(({ path }) => blockOf(path)).filter((number) => number !== undefined));
  return [...numbers].sort((a, b) => a - b);
}

/** Methods that only look at shapes can be put onto layers that have no weights yet; what others say of them is no fault of the recipe. */
async function sizeOf(set: AdapterSet, adapter: ResolvedConfig): Promise<Pick<AdapterPlan, 'size' | 'frozen' | 'taken'>> {
  const plain = plainly(adapter);
  if (plain.method.usesData?.(plain.config)) return { size: undefined, frozen: 0, taken: 0 };
  try {
    const { placements } = await set.add(plain);
    const parameters = trainedSize(placements);
    const pairs =
      adapter.method.takes?.(adapter.config) === undefined ? [] : placements.filter(({ module }) => module.lowRank !== undefined);
    const width = kDtypeBytes[set.dtype];
    const frozen = sizeOfTensors(placements, ({ requiresGrad }) => !requiresGrad) * width;
    return { size: { parameters, bytes: parameters * width }, frozen, taken: trainedSize(pairs) * width };
  } catch {
    return { size: undefined, frozen: 0, taken: 0 };
  }
}

const trainedSize = (placements: readonly Placement[]): number => sizeOfTensors(placements, ({ requiresGrad }) => requiresGrad);

function sizeOfTensors(placements: readonly Placement[], counts: (tensor: Tensor) => boolean): number {
  const tensors = placements.flatMap(({ module }) => tensorsOf(module).map(([, tensor]) => tensor));
  return tensors.filter(counts).reduce((sum, { size }) => sum + size, 0);
}

/** An adapter of the same size that starts without a look at weights or data. */
export const plainly = ({ method, config }: ResolvedConfig): ResolvedConfig => ({
  method,
  config: (method.plain?.(config) as ResolvedConfig['config'] | undefined) ?? config,
});
