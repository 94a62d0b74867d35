import { FormatError } from '../errors.js';
import { describeJson, isJsonObject } from './json.js';

/** Bits of one element of every published safetensors dtype. */
const bitsOf = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

/** Element type of a tensor in a safetensors file. */
export type SafetensorsDtype = keyof typeof bitsOf;

/** One tensor of a file: `start` counts bytes from the beginning of the file. */
export interface SafetensorsEntry {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly start: number;
  readonly bytes: number;
}

/** What the header of a safetensors file says, checked against the file's size. Entries are in the order of their bytes. */
export interface SafetensorsHeader {
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>;
  readonly metadata: Readonly<Record<string, string>>;
  /** First byte after the header. */
  readonly dataStart: number;
  /** Size of the whole file in bytes. */
  readonly fileBytes: number;
}

/** The format's own limit on the JSON part. */
export const maxHeaderBytes = 100_000_000;

/** Bytes of an array of `shape`, or NaN when that is no whole number of bytes or too large to count. */
export function safetensorsBytes(dtype: SafetensorsDtype, shape: readonly number[]): number {
  let elements = 1;
  if (shape.includes(0)) return 0;
  for (const size of shape) elements *= size;
  const bytes = (elements * bitsOf[dtype]) / 8;
  return Number.isSafeInteger(bytes) ? bytes : Number.NaN;
}

export function isSafetensorsDtype(name: unknown): name is SafetensorsDtype {
  return typeof name === 'string' && Object.hasOwn(bitsOf, name);
}

/** Length of the JSON part from the first 8 bytes of a file of `fileSize` bytes. */
export function safetensorsHeaderLength(start: Uint8Array, fileSize: number, file: string): number {
  if (fileSize < 8 || start.length < 8)
    throw new FormatError(`${file}: too short for a safetensors file; got ${fileSize} bytes, expected at least 8`);
  const length = new DataView(start.buffer, start.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(maxHeaderBytes)) {
    throw new FormatError(
      `${file}: is not a safetensors file, or its header is too large; got a header length of ${length} bytes, expected at most ${maxHeaderBytes}`,
    );
  }
  if (length < 2n || 8n + length > BigInt(fileSize)) {
    throw new FormatError(`${file}: the header does not fit the file; got a header length of ${length} bytes in a file of ${fileSize}`);
  }
  return Number(length);
}

/**
 * Parses the header of a safetensors file.
 *
 * `head` holds at least the first 8 + header-length bytes of a file of `fileSize` bytes; `file` names it in messages. Throws `FormatError` unless the
 * JSON is an object without repeated keys, every dtype is known, every byte range has exactly the size of its shape, and the ranges follow each other
 * without gap or overlap up to the end of the file.
 */
export function parseSafetensorsHeader(head: Uint8Array, fileSize: number, file: string): SafetensorsHeader {
  const length = safetensorsHeaderLength(head, fileSize, file);
  const dataStart = 8 + length;
  if (head.length < dataStart) throw new FormatError(`${file}: the header is cut off; got ${head.length} bytes, expected ${dataStart}`);
  const text = decodeHeader(head.subarray(8, dataStart), file);
  const header = parseHeaderJson(text, file);
  const entries: SafetensorsEntry[] = [];
  let metadata: Record<string, string> = {};
  let keys = 0;
  for (const [name, value] of Object.entries(header)) {
    keys++;
    if (name === '__metadata__') {
      metadata = checkMetadata(value, file);
      keys += Object.keys(metadata).length;
    } else {
      entries.push(checkEntry(name, value, dataStart, file));
      keys += 3;
    }
  }
  if (countKeys(text) !== keys) throw new FormatError(`${file}: the header repeats a key`);
  entries.sort((a, b) => a.start - b.start || a.bytes - b.bytes);
  checkLayout(entries, dataStart, fileSize, file);
  return { tensors: new Map(entries.map((entry) => [entry.name, entry])), metadata, dataStart, fileBytes: fileSize };
}

function decodeHeader(bytes: Uint8Array, file: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(`${file}: the header is not valid UTF-8`, { cause });
  }
}

function parseHeaderJson(text: string, file: string): Readonly<Record<string, unknown>> {
  if (!text.startsWith('{')) throw new FormatError(`${file}: the header does not begin with "{"`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FormatError(`${file}: the header is not valid JSON; ${(cause as Error).message}`, { cause });
  }
  return value as Record<string, unknown>;
}

function checkMetadata(value: unknown, file: string): Record<string, string> {
  // What mlx writes where there are none.
  if (value === null) return {};
  if (!isJsonObject(value)) throw new FormatError(`${file}: "__metadata__" must be an object of strings; got ${describeJson(value)}`);
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string')
      throw new FormatError(`${file}: "__metadata__" must be an object of strings; got ${describeJson(text)} for "${key}"`);
  }
  return value as Record<string, string>;
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function checkEntry(name: string, value: unknown, dataStart: number, file: string): SafetensorsEntry {
  const wrong = (what: string): FormatError => new FormatError(`${file}: tensor "${name}": ${what}`);
  if (!isJsonObject(value)) throw wrong(`must be an object; got ${describeJson(value)}`);
  const { dtype, shape, data_offsets: offsets, ...rest } = value;
  const unknown = Object.keys(rest)[0];
  if (unknown !== undefined) throw wrong(`unknown key "${unknown}"`);
  if (!isSafetensorsDtype(dtype))
    throw wrong(`unknown dtype; got ${describeJson(dtype)}, expected one of ${Object.keys(bitsOf).join(', ')}`);
  if (!Array.isArray(shape) || !shape.every(isCount)) throw wrong('"shape" must be a list of whole numbers');
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) throw wrong('"data_offsets" must be two whole numbers');
  const [begin, end] = offsets as [number, number];
  if (begin > end) throw wrong(`"data_offsets" run backwards; got [${begin}, ${end}]`);
  const bytes = safetensorsBytes(dtype, shape);
  if (end - begin !== bytes)
    throw wrong(`the byte range does not fit the shape; got ${end - begin} bytes, expected ${bytes} for ${dtype} [${shape.join(', ')}]`);
  return { name, dtype, shape, start: dataStart + begin, bytes };
}

function checkLayout(entries: readonly SafetensorsEntry[], dataStart: number, fileSize: number, file: string): void {
  let position = dataStart;
  let previous = 'the header';
  for (const { name, start, bytes } of entries) {
    if (start !== position) {
      const what = start < position ? 'overlaps' : 'leaves a gap after';
      throw new FormatError(
        `${file}: tensor "${name}" ${what} ${previous}; got offset ${start - dataStart}, expected ${position - dataStart}`,
      );
    }
    position += bytes;
    previous = `tensor "${name}"`;
  }
  if (position !== fileSize) {
    const what = position > fileSize ? 'the file is cut off' : 'the file has bytes that belong to no tensor';
    throw new FormatError(`${file}: ${what}; got ${fileSize} bytes, expected ${position}`);
  }
}

/** Number of object keys in a valid JSON text: strings followed by a colon. Repeated keys, which JSON.parse drops, are counted each time. */
function countKeys(text: string): number {
  let keys = 0;
  for (let at = text.indexOf('"'); at >= 0; at = text.indexOf('"', at)) {
    at++;
    while (text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
    at++;
    let next = at;
    while (next < text.length && ' \t\n\r'.includes(text[next] ?? '')) next++;
    if (text[next] === ':') keys++;
  }
  return keys;
}
