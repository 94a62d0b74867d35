import type { Weights } from '../io/weights.js';
import type { CausalLanguageModel } from '../models/causal-language-model.js';
import { ones, uniform, zeros } from '../ops/create.js';
import type { DType } from '../tensor.js';
import type { SourceModel } from './source-model.js';

/** Bound of the random values: those of a trained model are of this size. */
const kBound = 0.03;

/**
 * Weights for every tensor that a network reads: norms 1, biases 0, the rest uniform; in blocks, those of the file, where the shape is its. `storedDtype` says how a
 * real file would store a tensor. What is measured with them takes the memory and time of the real ones.
 */
export function randomWeights(network: CausalLanguageModel, storedDtype: (name: string) => DType, source: SourceModel): Weights {
  const shapes = new Map<string, readonly number[]>();
  for (const [path, module] of network.namedModules())
    for (const [name, shape] of Object.entries(module.parameterShapes())) shapes.set(`${path}.${name}`, shape);
  const names = [...shapes.keys()];
  return {
    source: 'random weights',
    entries: new Map(names.map((name) => [name, { shape: shapes.get(name) ?? [], stored: storedDtype(name) }])),
    load: (name) => {
      const shape = shapes.get(name) ?? [];
      const dtype = storedDtype(name);
      if (name.endsWith('.bias')) return zeros(shape, { dtype });
      if (shape.length === 1) return ones(shape, { dtype });
      return uniform(shape, { dtype, low: -kBound, high: kBound, seed: 1, stream: names.indexOf(name) });
    },
    ...(source.loadBlocks === undefined ? {} : { loadBlocks: blocksOfShape(shapes, source.loadBlocks) }),
  };
}

/** The blocks of a file for the tensors that have its shape here too. */
function blocksOfShape(
  shapes: ReadonlyMap<string, readonly number[]>,
  loadBlocks: NonNullable<Weights['loadBlocks']>,
): NonNullable<Weights['loadBlocks']> {
  return (name, compute) => {
    const blocks = loadBlocks(name, compute);
    if (blocks === undefined || String(blocks.shape) === String(shapes.get(name))) return blocks;
    blocks.dispose();
    return undefined;
  };
}
