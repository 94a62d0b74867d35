import { kDtypeBytes } from '../dtype.js';
import { type StoredAs, storedBytes } from '../models/stored-bytes.js';
import { isInt8, isQuantized, readDtype, staysInFile } from '../models/weight-storage.js';
import type { Module } from '../nn/module.js';
import type { Recipe } from '../recipe.js';
import type { SourceModel } from './source-model.js';

/** Where the frozen weights of a network lie once it is loaded, in bytes. */
export interface WeightBytes {
  /** In memory, one layout each. */
  readonly memory: number;
  /** In the mapped file. */
  readonly mapped: number;
}

/** What the weights of a network take once it is loaded as a recipe says. A tied head is one with its embedding. */
export function weightBytes(network: Module, source: SourceModel, recipe: Pick<Recipe, 'dtype' | 'compute' | 'layout'>): WeightBytes {
  const { storage, compute, int8 = false } = readDtype(recipe.dtype, recipe.compute);
  const blocksOf = (name: string): StoredAs | undefined => {
    if (storage?.type === 'stored') return source.blockType(name);
    return storage?.type === 'int8' ? 'int8' : storage;
  };
  const isMapped = (name: string, module: Module, parameter: string): boolean =>
    recipe.layout === 'native' &&
    staysInFile(module, parameter) &&
    source.isPlain(name) &&
    (compute === undefined || compute === source.storedDtype(name));
  const bytes = { memory: 0, mapped: 0 };
  for (const [path, module] of network.namedModules()) {
    for (const [parameter, shape] of Object.entries(module.parameterShapes())) {
      const name = `${path}.${parameter}`;
      const quantized = storage !== undefined && isQuantized(storage, module, parameter);
      const kept = quantized ? blocksOf(name) : undefined;
      const blocks = int8 && isInt8(module, parameter) && (storage?.type !== 'stored' || kept === undefined) ? 'int8' : kept;
      if (blocks !== undefined) bytes.memory += storedBytes(shape as [number, number], blocks);
      else
        bytes[isMapped(name, module, parameter) ? 'mapped' : 'memory'] += sizeOf(shape) * kDtypeBytes[compute ?? source.storedDtype(name)];
    }
  }
  return bytes;
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);
