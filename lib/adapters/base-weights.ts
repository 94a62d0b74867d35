import type { Layer, Module } from '../nn/module.js';
import { cast, notEqual } from '../ops/elementwise.js';
import { max } from '../ops/reduce.js';
import { noGrad, scope } from '../scope.js';
import { Tensor } from '../tensor.js';
import type { Attached } from './adapter-set.js';
import { layersOf } from './inject.js';
import { parametersOf } from './trained-copy.js';

const kEnd = '.base_layer.weight';

/** True when two tensors of one shape hold the same values in the dtype of `own`. */
async function equalValues(own: Tensor, other: Tensor): Promise<boolean> {
  if (own.shape.join() !== other.shape.join()) return false;
  return scope(async () => {
    const different = noGrad(() => max(cast(notEqual(own, cast(other, own.dtype)), 'f32')));
    return (await different.item()) === 0;
  });
}

/**
 * PEFT writes the bare weight of adapted embeddings and heads into the file (`PATH.base_layer.weight`). It must be the model's own: returns the keys whose
 * values differ, and those that belong to no adapted layer.
 */
export async function differingBases(
  network: Module,
  attached: Attached,
  copies: ReadonlyMap<string, Tensor>,
): Promise<{ differing: string[]; unexpected: string[] }> {
  const adapted = new Set(attached.placements.map(({ path }) => path));
  const layers = new Map<string, Layer>(copies.size === 0 ? [] : layersOf(network).map(({ path, layer }) => [path, layer]));
  const differing: string[] = [];
  const unexpected: string[] = [];
  for (const [key, copy] of copies) {
    const path = key.slice(0, -kEnd.length);
    const weight = adapted.has(path) ? parametersOf(layers.get(path) as Layer).get('weight') : undefined;
    if (weight === undefined) {
      unexpected.push(key);
      continue;
    }
    const equal = await scope(() => equalValues(weight instanceof Tensor ? weight : weight.unpack(), copy));
    if (!equal) differing.push(key);
  }
  return { differing, unexpected };
}

/** The bare weights of the adapted embeddings and heads, as PEFT writes them by default; the enclosing scope owns the copies. */
export function embeddingBases(network: Module, attached: Attached): [string, Tensor][] {
  const adapted = new Set(attached.placements.filter(({ module }) => [...module.namedParameters()].length > 0).map(({ path }) => path));
  const found: [string, Tensor][] = [];
  for (const { path, layer, kind, role } of layersOf(network)) {
    const weight = parametersOf(layer).get('weight');
    if (!adapted.has(path) || weight === undefined || (kind !== 'embedding' && role !== 'head')) continue;
    found.push([`${path}${kEnd}`, weight instanceof Tensor ? weight : weight.unpack()]);
  }
  return found;
}
