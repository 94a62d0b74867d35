import { didYouMean, FormatError } from '../errors.js';
import { op } from '../native.js';
import { PackedWeight } from '../ops/linalg.js';
import { type DType, Tensor } from '../tensor.js';
import type { NamedGgufTensor } from './gguf/names.js';
import type { GgufHeader } from './gguf/parser.js';
import { readableGgufTypes } from './gguf/types.js';
import type { SafetensorsFiles, StoredTensor } from './safetensors-files.js';
import type { SafetensorsDtype } from './safetensors-header.js';

const mappedTensor = op('mappedTensor');
const ggufTensor = op('ggufTensor');
const packGguf = op('packGguf');

/** The stored tensors of a model or adapter by checkpoint name, whatever kind of file holds them. */
export interface Weights {
  /** Name of the file or index, for messages. */
  readonly source: string;
  /** Shape of every tensor, and how it is stored (`BF16`, `Q4_1`, ...). */
  readonly entries: ReadonlyMap<string, { readonly shape: readonly number[]; readonly stored: string }>;
  /**
   * The values of one tensor; the caller owns it. Float files give views of the mapped file in the dtype they are stored in; GGUF blocks give f32.
   * Throws `FormatError` when there is no such tensor or its type cannot be computed with.
   */
  load(name: string): Tensor;
  /**
   * A matrix in the blocks it is stored in, copied out of the file, or undefined where it is stored as plain floats; `compute` as in `packQuantized`. Only files
   * that can have blocks have this.
   */
  loadBlocks?(name: string, compute: DType): PackedWeight | undefined;
}

/** How the engine names the dtypes that it computes with. */
export const dtypeOfSafetensors: { readonly [stored in SafetensorsDtype]?: DType } = {
  F64: 'f64',
  F32: 'f32',
  BF16: 'bf16',
  F16: 'f16',
  I64: 'i64',
  I32: 'i32',
  U8: 'u8',
  BOOL: 'bool',
};

function find<Entry>(entries: ReadonlyMap<string, Entry>, name: string, source: string): Entry {
  const entry = entries.get(name);
  if (entry === undefined) throw new FormatError(`${source}: tensor "${name}" is missing${didYouMean(name, entries.keys())}`);
  return entry;
}

/** A tensor over the mapped bytes of a safetensors file. */
export function openStoredTensor({ file, fileBytes, name, dtype, shape, start }: StoredTensor): Tensor {
  const known = dtypeOfSafetensors[dtype];
  if (known === undefined) {
    throw new FormatError(
      `${file}: tensor "${name}" has a dtype that cannot be computed with; got ${dtype}, expected one of ${Object.keys(dtypeOfSafetensors).join(', ')}`,
    );
  }
  return new Tensor(mappedTensor(file, fileBytes, start, known, shape));
}

/** The tensors of a safetensors checkpoint. */
export function safetensorsWeights(files: SafetensorsFiles, source: string): Weights {
  const entries = new Map(Array.from(files.tensors, ([name, { shape, dtype }]) => [name, { shape, stored: dtype }]));
  return { source, entries, load: (name) => openStoredTensor(find(files.tensors, name, source)) };
}

/** The tensors of a GGUF file by checkpoint name, dequantised to f32 when loaded; rows of q and k come in the order of the checkpoint. */
export function ggufWeights(header: GgufHeader, tensors: ReadonlyMap<string, NamedGgufTensor>): Weights {
  const { file, fileBytes } = header;
  const entries = new Map(Array.from(tensors, ([name, { shape, type }]) => [name, { shape, stored: type.name }]));
  const readable = (wanted: string): NamedGgufTensor => {
    const tensor = find(tensors, wanted, file);
    const { name, type } = tensor;
    if (!type.readable) {
      throw new FormatError(
        `${file}: tensor "${name}" has a type that cannot be read; got ${type.name}, expected one of ${readableGgufTypes.join(', ')}`,
      );
    }
    return tensor;
  };
  const load = (wanted: string): Tensor => {
    const { type, shape, start, interleavedHeads } = readable(wanted);
    if (type.name === 'F32' && interleavedHeads === 0) return new Tensor(mappedTensor(file, fileBytes, start, 'f32', shape));
    return new Tensor(ggufTensor(file, fileBytes, start, type.id, shape, interleavedHeads));
  };
  const loadBlocks = (wanted: string, compute: DType): PackedWeight | undefined => {
    const { type, shape, start, interleavedHeads } = readable(wanted);
    if (type.blockSize === 1) return undefined;
    return new PackedWeight(packGguf(file, fileBytes, start, type.id, shape, interleavedHeads, compute));
  };
  return { source: file, entries, load, loadBlocks };
}
