import { FormatError } from '../../errors.js';
import type { ByteSource } from '../byte-source.js';
import { GgufCursor, type GgufValue } from './cursor.js';
import { type GgufType, ggufType } from './types.js';

/** One tensor of a GGUF file. `shape` is in row order (the last size runs fastest); `start` counts bytes from the beginning of the file. */
export interface GgufTensor {
  readonly name: string;
  readonly type: GgufType;
  readonly shape: readonly number[];
  readonly start: number;
  readonly bytes: number;
}

/** What a GGUF file says about itself, checked against its size. */
export interface GgufHeader {
  /** Path of the file. */
  readonly file: string;
  /** Its size in bytes. */
  readonly fileBytes: number;
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  readonly alignment: number;
}

const magic = 0x46554747;
const maxPairs = 1 << 16;
const maxTensors = 1 << 20;
const maxDimensions = 4;
const maxNameBytes = 1 << 16;

/**
 * Parses a GGUF file (version 2 or 3, little-endian) up to its tensor data.
 *
 * Throws `FormatError` when a count, length, type, shape or offset does not fit the file, when a name is repeated, or when tensors overlap.
 */
export function parseGguf(source: ByteSource): GgufHeader {
  const cursor = new GgufCursor(source);
  const version = readVersion(cursor);
  const tensorCount = cursor.count('number of tensors', maxTensors);
  const pairCount = cursor.count('number of metadata pairs', maxPairs);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < pairCount; i++) {
    const key = cursor.name('a metadata key', maxNameBytes);
    if (metadata.has(key)) throw cursor.fail(`metadata key "${key}" is repeated`);
    metadata.set(key, cursor.value(cursor.u32(`type of metadata "${key}"`), `metadata "${key}"`));
  }
  const alignment = alignmentOf(metadata, cursor);
  const entries: GgufTensor[] = [];
  for (let i = 0; i < tensorCount; i++) entries.push(readTensor(cursor, alignment));
  const dataStart = Math.ceil(cursor.position / alignment) * alignment;
  const tensors = placeTensors(entries, dataStart, source);
  return { file: source.name, fileBytes: source.size, version, metadata, tensors, alignment };
}

function readVersion(cursor: GgufCursor): number {
  if (cursor.remaining < 24) throw cursor.fail(`too short for a GGUF file; got ${cursor.remaining} bytes, expected at least 24`);
  if (cursor.u32('magic') !== magic) throw cursor.fail('is not a GGUF file; the first four bytes are not "GGUF"');
  const version = cursor.u32('version');
  if (version >= 1 << 24 && (version & 0xffff) === 0) throw cursor.fail('is a big-endian GGUF file; expected a little-endian one');
  if (version !== 2 && version !== 3) throw cursor.fail(`unknown GGUF version; got ${version}, expected 2 or 3`);
  return version;
}

function alignmentOf(metadata: ReadonlyMap<string, GgufValue>, cursor: GgufCursor): number {
  const alignment = metadata.get('general.alignment') ?? 32;
  if (typeof alignment !== 'number' || alignment < 8 || alignment > 1 << 20 || !Number.isInteger(Math.log2(alignment))) {
    throw cursor.fail(`"general.alignment" must be a power of two from 8 to 2^20; got ${String(alignment)}`);
  }
  return alignment;
}

function readTensor(cursor: GgufCursor, alignment: number): GgufTensor {
  const name = cursor.name('a tensor name', maxNameBytes);
  const dimensions = cursor.u32(`rank of tensor "${name}"`);
  if (dimensions > maxDimensions)
    throw cursor.fail(`tensor "${name}" has too many dimensions; got ${dimensions}, expected at most ${maxDimensions}`);
  const shape: number[] = [];
  for (let i = 0; i < dimensions; i++) shape.unshift(cursor.count(`shape of tensor "${name}"`, Number.MAX_SAFE_INTEGER));
  const id = cursor.u32(`type of tensor "${name}"`);
  const type = ggufType(id);
  if (type === undefined) throw cursor.fail(`tensor "${name}" has an unknown type; got ${id}`);
  const start = cursor.count(`offset of tensor "${name}"`, Number.MAX_SAFE_INTEGER);
  if (start % alignment !== 0)
    throw cursor.fail(`tensor "${name}" is not aligned; got offset ${start}, expected a multiple of ${alignment}`);
  const width = shape.at(-1) ?? 1;
  if (width % type.blockSize !== 0) {
    throw cursor.fail(
      `tensor "${name}" has rows that are no whole number of ${type.name} blocks; got ${width} values, expected a multiple of ${type.blockSize}`,
    );
  }
  const bytes = shape.includes(0) ? 0 : (shape.reduce((product, size) => product * size, 1) / type.blockSize) * type.typeSize;
  if (!Number.isSafeInteger(bytes)) throw cursor.fail(`tensor "${name}" is too large; got shape [${shape.join(', ')}]`);
  return { name, type, shape, start, bytes };
}

/** Turns offsets within the data part into offsets within the file. */
function placeTensors(entries: readonly GgufTensor[], dataStart: number, source: ByteSource): Map<string, GgufTensor> {
  const tensors = new Map<string, GgufTensor>();
  for (const entry of entries) {
    const { name, bytes } = entry;
    const start = dataStart + entry.start;
    if (tensors.has(name)) throw new FormatError(`${source.name}: tensor "${name}" is repeated`);
    if (start + bytes > source.size) {
      throw new FormatError(
        `${source.name}: tensor "${name}" does not fit the file, or the file is cut off; got ${source.size} bytes, expected at least ${start + bytes}`,
      );
    }
    tensors.set(name, { ...entry, start });
  }
  let previous: GgufTensor | undefined;
  for (const tensor of [...tensors.values()].sort((a, b) => a.start - b.start || a.bytes - b.bytes)) {
    if (previous !== undefined && tensor.start < previous.start + previous.bytes) {
      throw new FormatError(`${source.name}: tensors "${previous.name}" and "${tensor.name}" overlap`);
    }
    previous = tensor;
  }
  return tensors;
}
