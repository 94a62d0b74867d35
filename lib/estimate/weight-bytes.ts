import { kDtypeBytes } from '../dtype.js';
import { type StoredAs, storedBytes } from '../models/stored-bytes.js';
import { isInt8, isQuantized, readDtype } from '../models/weight-storage.js';
import type { Module } from '../nn/module.js';
import type { Recipe } from '../recipe.js';
import type { SourceModel } from './source-model.js';

/**
 * Bytes of the frozen weights of a network once it is loaded as a recipe says, one layout each. A tied head is one with its embedding.
 */
export function weightBytes(network: Module, source: SourceModel, recipe: Pick<Recipe, 'dtype' | 'compute'>): number {
  const { storage, compute, int8 = false } = readDtype(recipe.dtype, recipe.compute);
  const floats = (name: string, shape: readonly number[]): number => sizeOf(shape) * kDtypeBytes[compute ?? source.storedDtype(name)];
  const blocksOf = (name: string): StoredAs | undefined => {
    if (storage?.type === 'stored') return source.blockType(name);
    return storage?.type === 'int8' ? 'int8' : storage;
  };
  let bytes = 0;
  for (const [path, module] of network.namedModules()) {
    for (const [parameter, shape] of Object.entries(module.parameterShapes())) {
      const name = `${path}.${parameter}`;
      const quantized = storage !== undefined && isQuantized(storage, module, parameter);
      const blocks = int8 && isInt8(module, parameter) ? 'int8' : quantized ? blocksOf(name) : undefined;
      bytes += blocks === undefined ? floats(name, shape) : storedBytes(shape as [number, number], blocks);
    }
  }
  return bytes;
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);
