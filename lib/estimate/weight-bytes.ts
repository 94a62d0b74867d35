import { layersOf } from '../adapters/inject.js';
import type { CausalLanguageModel } from '../models/causal-language-model.js';
import { Linear } from '../nn/linear.js';
import type { DType } from '../tensor.js';

const kWidths: Readonly<Record<DType, number>> = { f64: 8, f32: 4, bf16: 2, f16: 2, i64: 8, i32: 4, u8: 1, bool: 1 };

/** Bytes of one value. */
export const widthOf = (dtype: DType): number => kWidths[dtype];

/** Bytes of the frozen weights of a network once it is loaded, one layout each; `dtypeOf` says what each is held in. A tied head is packed beside its embedding. */
export function weightBytes(network: CausalLanguageModel, dtypeOf: (name: string) => DType): number {
  let bytes = 0;
  for (const [path, module] of network.namedModules()) {
    for (const [name, shape] of Object.entries(module.parameterShapes())) bytes += sizeOf(shape) * widthOf(dtypeOf(`${path}.${name}`));
  }
  for (const { path, layer, shape = [] } of layersOf(network)) {
    if (layer instanceof Linear && layer.tiedTo !== undefined) bytes += sizeOf(shape) * widthOf(dtypeOf(`${path}.weight`));
  }
  return bytes;
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);
