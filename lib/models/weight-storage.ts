import { ConfigError, didYouMean, FormatError } from '../errors.js';
import type { Weights } from '../io/weights.js';
import { Embedding } from '../nn/embedding.js';
import { Linear } from '../nn/linear.js';
import type { Module } from '../nn/module.js';
import { kWeightLayouts, type PackedWeight, packInt8, type WeightLayout } from '../ops/linalg.js';
import { type Nf4Options, packQuantized, quantizeInt8, quantizeNf4 } from '../ops/quantize.js';
import { noGrad, scope, unscoped } from '../scope.js';
import type { DType, Tensor } from '../tensor.js';

/** Dtypes that models are computed in. */
export const kComputeDtypes = ['f32', 'bf16', 'f16', 'f64'] as const satisfies readonly DType[];
/** Dtypes of activations, embedding and norms that quantised weights go with. */
export const kQuantizedComputeDtypes = ['f32', 'bf16'] as const satisfies readonly DType[];
export const kStorages = ['stored', 'nf4', 'int8'] as const;
/** Values of `compute`: `int8` multiplies frozen linear layers in 8-bit integers, the head only where it is in blocks of a file. */
export const kComputes = [...kQuantizedComputeDtypes, 'int8'] as const;
/** Dtypes that go with `compute: int8`. */
export const kInt8Dtypes = ['f32', 'bf16', 'f16', ...kStorages] as const;

/** NF4 with its options. */
export interface Nf4Dtype extends Nf4Options {
  readonly type: 'nf4';
}

/**
 * What a model is kept and computed in: a floating dtype, or a storage of frozen weights in few bits. `stored` keeps the blocks of a `.gguf` file; `nf4` and `int8`
 * quantise the linear layers but the head as they are loaded.
 */
export type ModelDType = (typeof kComputeDtypes)[number] | (typeof kStorages)[number] | Nf4Dtype;

/** How the weights of linear layers are kept when not as plain floats. */
export type WeightStorage = { readonly type: 'stored' } | { readonly type: 'int8' } | ({ readonly type: 'nf4' } & Required<Nf4Options>);

export type Compute = (typeof kComputes)[number];

/** How a model is loaded. */
export interface Loading {
  /** Few bits that weights are kept in; default: floats. */
  readonly storage?: WeightStorage;
  /** Dtype of activations and of all weights that stay floats; default: as stored. */
  readonly compute?: DType;
  /** Whether frozen linear layers multiply 8-bit integers. */
  readonly int8?: boolean;
}

/** `dtype` and `compute` of `loadModel` taken apart; both undefined: as stored. Throws `ConfigError`. */
export function readDtype(dtype: ModelDType | undefined, compute: string | undefined): Loading {
  const storage = storageOf(dtype);
  if (compute === 'int8') return readInt8(dtype, storage);
  if (storage === undefined) {
    if (compute !== undefined)
      throw new ConfigError(
        `loadModel: compute f32 and bf16 go with dtype ${kStorages.join(', ')}; got compute "${compute}" and dtype ${dtype ?? '(none)'}`,
      );
    return dtype === undefined ? {} : { compute: dtype as DType };
  }
  if (compute === undefined) return { storage };
  const found = kQuantizedComputeDtypes.find((name) => name === compute);
  if (found === undefined)
    throw new ConfigError(
      `loadModel: unknown compute "${compute}"; expected one of ${kComputes.join(', ')}${didYouMean(compute, kComputes)}`,
    );
  return { storage, compute: found };
}

/** `layout` of `loadModel`. Throws `ConfigError`. */
export function readLayout(layout: string | undefined): WeightLayout | undefined {
  if (layout === undefined) return undefined;
  const found = kWeightLayouts.find((name) => name === layout);
  if (found === undefined)
    throw new ConfigError(
      `loadModel: unknown layout "${layout}"; expected one of ${kWeightLayouts.join(', ')}${didYouMean(layout, kWeightLayouts)}`,
    );
  return found;
}

/** Activations are in the floating dtype, and in bf16 beside weights in few bits. */
function readInt8(dtype: ModelDType | undefined, storage: WeightStorage | undefined): Loading {
  if (storage !== undefined) return { storage, compute: 'bf16', int8: true };
  if (dtype === undefined) return { int8: true };
  if (dtype === 'f32' || dtype === 'bf16' || dtype === 'f16') return { compute: dtype, int8: true };
  throw new ConfigError(`loadModel: compute int8 goes with dtype ${kInt8Dtypes.join(', ')}; got dtype ${dtype}`);
}

function storageOf(dtype: ModelDType | undefined): WeightStorage | undefined {
  if (dtype === undefined || kComputeDtypes.some((name) => name === dtype)) return undefined;
  if (dtype === 'stored' || dtype === 'int8') return { type: dtype };
  if (dtype === 'nf4') return { type: 'nf4', blockSize: 64, doubleQuantization: false };
  if (typeof dtype === 'object') return nf4Of(dtype);
  const all = [...kComputeDtypes, ...kStorages];
  throw new ConfigError(`loadModel: unknown dtype "${dtype}"; expected one of ${all.join(', ')}${didYouMean(dtype, all)}`);
}

function nf4Of({ type, blockSize = 64, doubleQuantization = false, ...rest }: Nf4Dtype): WeightStorage {
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined)
    throw new ConfigError(`loadModel: unknown dtype option "${unknown}"${didYouMean(unknown, ['blockSize', 'doubleQuantization'])}`);
  if (type !== 'nf4') throw new ConfigError(`loadModel: only dtype nf4 has options; got type "${type}"`);
  if (!isBlockSize(blockSize)) throw new ConfigError(`loadModel: dtype blockSize must be a power of two from 32 to 4096; got ${blockSize}`);
  if (typeof doubleQuantization !== 'boolean')
    throw new ConfigError(`loadModel: dtype doubleQuantization must be true or false; got ${doubleQuantization}`);
  return { type, blockSize, doubleQuantization };
}

/** Whether NF4 can have blocks of so many values. */
export const isBlockSize = (size: number): boolean => Number.isInteger(Math.log2(size)) && size >= 32 && size <= 4096;

/** Whether a storage keeps this parameter of this module in few bits: all matrices for `stored`, else the linear layers but the head. */
export function isQuantized(storage: WeightStorage, module: Module, parameter: string): boolean {
  if (parameter !== 'weight') return false;
  if (storage.type === 'stored') return module instanceof Linear || module instanceof Embedding;
  return module instanceof Linear && module.role !== 'head';
}

/** Whether layout `native` leaves this parameter of this module in the file that it is stored in. */
export const staysInFile = (module: Module, parameter: string): boolean =>
  parameter === 'weight' && (module instanceof Linear || module instanceof Embedding);

/** Whether `compute: int8` multiplies this parameter of this module in 8-bit integers when it is not in blocks of a file. */
export const isInt8 = (module: Module, parameter: string): boolean =>
  parameter === 'weight' && module instanceof Linear && module.role !== 'head';

/** A weight for products of 8-bit integers; releases what it is made from. */
export function packedInt8(weight: Tensor | PackedWeight): PackedWeight {
  const packed = unscoped(() => packInt8(weight));
  weight.dispose();
  return packed;
}

/** A floating weight in few bits; `compute` as in {@link packQuantized}. */
export function quantized(weight: Tensor, storage: WeightStorage, compute: DType): PackedWeight {
  return scope(() =>
    noGrad(() => packQuantized(storage.type === 'int8' ? quantizeInt8(weight) : quantizeNf4(weight, storage as Nf4Dtype), compute)),
  );
}

/** Throws unless the weights can be kept in this storage. */
export function checkStorage(storage: WeightStorage | undefined, weights: Weights): void {
  if (storage?.type === 'stored' && weights.loadBlocks === undefined)
    throw new FormatError(
      `${weights.source}: dtype "stored" keeps the blocks of a .gguf file; got float weights, expected dtype nf4, int8 or a float dtype`,
    );
}
