import { Tensor } from '../tensor.js';
import type { AdapterModule, Placement } from './adapter.js';
import type { Attached } from './adapter-set.js';
import { nameOf } from './whole-network.js';

/** One row of `table()`: what an adapter puts on a layer. */
export interface AdapterRow {
  readonly adapter: string;
  readonly path: string;
  /** Shapes of the adapter's tensors by the end of their checkpoint name. */
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  /** Numbers to train among them, those of a tensor that layers share in its first row alone. */
  readonly parameters: number;
}

/** The tensors of an adapter module by the end of their name in a checkpoint. */
export function tensorsOf(module: AdapterModule): [string, Tensor][] {
  return [...module.namedParameters()].filter((entry): entry is [string, Tensor] => entry[1] instanceof Tensor);
}

/** Tensors of a module at a path by their whole name in the model. */
export const namedTensors = (path: string, tensors: readonly [string, Tensor][]): [string, Tensor][] =>
  tensors.map(([end, value]) => [nameOf(path, end), value]);

/** The tensors of an adapter module by their whole name in the model. */
export const namedTensorsOf = ({ path, module }: Placement): [string, Tensor][] => namedTensors(path, tensorsOf(module));

/** What an adapter put where. */
export function rowsOf({ name, placements }: Attached): AdapterRow[] {
  const counted = new Set<Tensor>();
  return placements.flatMap(({ path, module }) => {
    const tensors = tensorsOf(module);
    if (tensors.length === 0) return [];
    let parameters = 0;
    for (const [, value] of tensors) {
      if (value.requiresGrad && !counted.has(value)) parameters += value.size;
      counted.add(value);
    }
    return [{ adapter: name, path, shapes: Object.fromEntries(tensors.map(([end, value]) => [end, value.shape])), parameters }];
  });
}
