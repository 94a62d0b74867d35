import { InvalidArgumentError } from '../../errors.js';
import { writeFileAtomically } from '../atomic-file.js';
import { encodePair, type GgufField, text, u32, u64 } from './encoder.js';
import type { WritableType } from './storage.js';
import { storedBytes, writableTypes } from './storage.js';

/** A tensor to be written; `shape` in row order. The bytes are asked for when their turn comes. */
export interface GgufTensorBytes {
  readonly type: WritableType;
  readonly shape: readonly number[];
  readonly data: () => Uint8Array | Promise<Uint8Array>;
}

const kMagic = 0x46554747;
const kVersion = 3;
const kAlignment = 32;

const aligned = (bytes: number): number => Math.ceil(bytes / kAlignment) * kAlignment;

/**
 * Writes a GGUF file (version 3, little-endian, aligned to 32 bytes) that appears complete or not at all. Metadata and tensors stand in the order given;
 * llama.cpp wants `general.architecture` first. Throws `InvalidArgumentError` where the bytes of a tensor do not fit its shape and type; a file that was
 * there before is then untouched.
 */
export async function writeGguf(
  path: string,
  metadata: ReadonlyMap<string, GgufField>,
  tensors: ReadonlyMap<string, GgufTensorBytes>,
): Promise<void> {
  const head: Buffer[] = [u32(kMagic), u32(kVersion), u64(tensors.size), u64(metadata.size)];
  for (const [key, field] of metadata) head.push(encodePair(key, field));
  let offset = 0;
  for (const [name, { type, shape }] of tensors) {
    if (Buffer.byteLength(name) > 63) throw new InvalidArgumentError(`writeGguf: the name of a tensor has at most 63 bytes; got "${name}"`);
    const sizes = [...shape].reverse().map(u64);
    head.push(text(name), u32(shape.length), ...sizes, u32(writableTypes[type].id), u64(offset));
    offset += aligned(storedBytes(name, type, shape));
  }
  const header = Buffer.concat(head);
  async function* pieces(): AsyncGenerator<Uint8Array> {
    yield header;
    yield Buffer.alloc(aligned(header.length) - header.length);
    for (const [name, { type, shape, data }] of tensors) {
      const bytes = await data();
      const expected = storedBytes(name, type, shape);
      if (bytes.length !== expected)
        throw new InvalidArgumentError(`writeGguf: tensor "${name}" has the wrong size; got ${bytes.length} bytes, expected ${expected}`);
      yield bytes;
      yield Buffer.alloc(aligned(expected) - expected);
    }
  }
  await writeFileAtomically(path, pieces());
}
