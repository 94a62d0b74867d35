import { FormatError } from '../errors.js';
import type { ByteSource } from './byte-source.js';

/** Where the bytes of a file of an archive lie. */
export interface StoredEntry {
  readonly start: number;
  readonly bytes: number;
}

const kEndSignature = 0x06054b50;
const kEndBytes = 22;
const kMaxComment = 0xffff;
const kCentralSignature = 0x02014b50;
const kCentralBytes = 46;
const kLocalSignature = 0x04034b50;
const kLocalBytes = 30;
/** Stands for a number that only an archive over 4 GiB has, elsewhere. */
const kElsewhere = 0xffffffff;

const text = new TextDecoder('utf-8', { fatal: true });

/**
 * The files of a zip archive by name, as torch.save writes them: stored without compression, so that they can be read where they lie. Throws `FormatError` for
 * what is no such archive, and for archives with compressed or encrypted files, or of more than 4 GiB.
 */
export function storedEntries(source: ByteSource): Map<string, StoredEntry> {
  const { count, start, bytes } = directoryOf(source);
  const view = viewOf(source.read(start, bytes).slice());
  const entries = new Map<string, StoredEntry>();
  let at = 0;
  for (let index = 0; index < count; index++) {
    if (at + kCentralBytes > bytes || view.getUint32(at, true) !== kCentralSignature)
      throw broken(source, `entry ${index + 1} of ${count} of its directory is cut off`);
    const [flags, method] = [view.getUint16(at + 8, true), view.getUint16(at + 10, true)];
    const [packed, size, offset] = [view.getUint32(at + 20, true), view.getUint32(at + 24, true), view.getUint32(at + 42, true)];
    const lengths = [28, 30, 32].map((place) => view.getUint16(at + place, true));
    const [nameBytes = 0] = lengths;
    const end = at + kCentralBytes + lengths.reduce((sum, length) => sum + length, 0);
    if (end > bytes) throw broken(source, `entry ${index + 1} of ${count} of its directory is cut off`);
    const name = nameIn(view, at + kCentralBytes, nameBytes, source);
    if (packed === kElsewhere || size === kElsewhere || offset === kElsewhere)
      throw new FormatError(`${source.name}: archives over 4 GiB are not read; save the adapter as adapter_model.safetensors`);
    if ((flags & 1) !== 0 || method !== 0 || packed !== size)
      throw new FormatError(`${source.name}: "${name}" is compressed or encrypted; expected a file as torch.save writes it`);
    if (entries.has(name)) throw broken(source, `two of its files are called "${name}"`);
    entries.set(name, { start: contentStart(source, name, offset, size), bytes: size });
    at = end;
  }
  return entries;
}

const broken = ({ name }: ByteSource, reason: string): FormatError => new FormatError(`${name}: is a broken zip archive; ${reason}`);

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function nameIn(view: DataView, start: number, length: number, source: ByteSource): string {
  try {
    return text.decode(new Uint8Array(view.buffer, view.byteOffset + start, length));
  } catch (cause) {
    throw new FormatError(`${source.name}: is a broken zip archive; the name of a file is not UTF-8`, { cause });
  }
}

/** Where the directory at the end of the archive lies. */
function directoryOf(source: ByteSource): { count: number; start: number; bytes: number } {
  const { size } = source;
  const tail = Math.min(size, kEndBytes + kMaxComment);
  const view = viewOf(source.read(size - tail, tail).slice());
  for (let at = tail - kEndBytes; at >= 0; at--) {
    if (view.getUint32(at, true) !== kEndSignature || at + kEndBytes + view.getUint16(at + 20, true) !== tail) continue;
    const [count, bytes, start] = [view.getUint16(at + 10, true), view.getUint32(at + 12, true), view.getUint32(at + 16, true)];
    if (start + bytes > size - tail + at) throw broken(source, 'its directory lies outside the file');
    return { count, start, bytes };
  }
  throw new FormatError(
    `${source.name}: is no file of torch.save, or cut off; expected the zip archive that torch writes from version 1.6 on`,
  );
}

/** The first byte of a file, behind a header whose length the directory does not tell. */
function contentStart(source: ByteSource, name: string, offset: number, size: number): number {
  if (offset + kLocalBytes > source.size) throw broken(source, `"${name}" lies outside the file`);
  const view = viewOf(source.read(offset, kLocalBytes));
  if (view.getUint32(0, true) !== kLocalSignature) throw broken(source, `"${name}" does not begin where the directory says`);
  const start = offset + kLocalBytes + view.getUint16(26, true) + view.getUint16(28, true);
  if (start + size > source.size) throw broken(source, `"${name}" lies outside the file`);
  return start;
}
