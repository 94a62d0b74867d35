import { createReadStream } from 'node:fs';
import { ConfigError, FormatError, throwIfAborted } from '../../errors.js';

/** Rows of a file may be this long, in bytes: tokenising takes some 160 times as much memory. Longer ones are errors, read past without being held in memory. */
export const kMaxRowBytes = 16 * 1024 * 1024;

/** A line as it lies in a file, without its end (LF or CRLF) and without a byte order mark. */
export interface RawLine {
  readonly bytes: Buffer;
  /** Its length in bytes; `bytes` is empty where that is over `kMaxRowBytes`. */
  readonly size: number;
  /** Where it begins in the file, in bytes. */
  readonly offset: number;
  /** Counted from 1. */
  readonly number: number;
}

const kNewline = 0x0a;
const kReturn = 0x0d;
const kPiece = 1 << 18;

/** Cuts the bytes of a UTF-8 file, or of a piece of one, into lines. */
export class LineSplitter {
  readonly #path: string;
  #parts: Buffer[] = [];
  #size = 0;
  #offset: number;
  #number: number;

  /** The first line begins at byte `offset` and has the number `number`. */
  constructor(path: string, offset = 0, number = 1) {
    this.#path = path;
    this.#offset = offset;
    this.#number = number;
  }

  /** The lines that end in `chunk`. Throws `FormatError` where the file begins with the mark of UTF-16. */
  push(chunk: Buffer): RawLine[] {
    const lines: RawLine[] = [];
    let start = 0;
    for (let end = chunk.indexOf(kNewline); end !== -1; end = chunk.indexOf(kNewline, start)) {
      this.#hold(chunk.subarray(start, end));
      lines.push(this.#finish(1));
      start = end + 1;
    }
    if (start < chunk.length) this.#hold(chunk.subarray(start));
    return lines;
  }

  /** The last line, where it has no end of its own. */
  end(): RawLine[] {
    return this.#size > 0 ? [this.#finish(0)] : [];
  }

  #hold(part: Buffer): void {
    this.#size += part.length;
    if (this.#size > kMaxRowBytes + 1) this.#parts = [];
    else if (part.length > 0) this.#parts.push(part);
  }

  #finish(ending: number): RawLine {
    let bytes = this.#parts.length === 1 ? (this.#parts[0] as Buffer) : Buffer.concat(this.#parts);
    let size = this.#size;
    const offset = this.#offset;
    if (bytes.at(-1) === kReturn) {
      bytes = bytes.subarray(0, -1);
      size--;
    }
    if (size > kMaxRowBytes) bytes = Buffer.alloc(0);
    if (offset === 0) {
      checkEncoding(bytes, this.#path);
      if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) bytes = bytes.subarray(3);
    }
    this.#parts = [];
    this.#offset += this.#size + ending;
    this.#size = 0;
    return { bytes, size, offset, number: this.#number++ };
  }
}

/** Throws `FormatError` where bytes at the beginning of a file are the mark of UTF-16. */
export function checkEncoding(bytes: Uint8Array, path: string): void {
  const [first, second] = bytes;
  if ((first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff))
    throw new FormatError(`${path}: UTF-16 text; expected UTF-8; convert it, for example with: iconv -f UTF-16 -t UTF-8`);
}

/** The lines of a file, those of one piece at a time. Throws `ConfigError` where the system refuses to read it. */
export async function* readLineBlocks(path: string, signal?: AbortSignal): AsyncGenerator<RawLine[]> {
  const splitter = new LineSplitter(path);
  for await (const chunk of readPieces(path)) {
    throwIfAborted(signal, 'data');
    yield splitter.push(chunk);
  }
  yield splitter.end();
}

async function* readPieces(path: string): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: kPiece }) as AsyncIterable<Buffer>) yield chunk;
  } catch (cause) {
    throw cannotRead(path, cause);
  }
}

/** The error for a file that the system refuses to read; other errors pass through. */
export function cannotRead(path: string, cause: unknown): unknown {
  const { code, syscall } = cause as NodeJS.ErrnoException;
  if (typeof code !== 'string' || syscall === undefined) return cause;
  return new ConfigError(`data: cannot read "${path}"; ${(cause as Error).message}`, { cause });
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The text of a line. Throws `FormatError` naming file and line where it is too long, not UTF-8, or holds NUL bytes. */
export function decodeLine({ bytes, size, number }: RawLine, path: string): string {
  const where = `${path}:${number}`;
  if (size > kMaxRowBytes) throw tooLong(where, size);
  if (bytes.includes(0)) throw new FormatError(`${where}: a NUL byte in the text; expected UTF-8 text, not UTF-16 or binary data`);
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new FormatError(`${where}: not valid UTF-8; expected UTF-8 text`, { cause });
  }
}

/** The error for a row over the limit. */
export function tooLong(where: string, size: number): FormatError {
  return new FormatError(`${where}: the row is too long; got ${size} bytes, expected at most ${kMaxRowBytes}`);
}

/** Whether a line holds nothing but white space (of ASCII). */
export function isBlank({ bytes, size }: RawLine): boolean {
  if (size > kMaxRowBytes) return false;
  for (const byte of bytes) if (byte !== 0x20 && (byte < 0x09 || byte > 0x0d)) return false;
  return true;
}
