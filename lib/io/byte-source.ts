import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { FormatError } from '../errors.js';

/** Random access to the bytes of a file; what the parsers of headers read from. */
export interface ByteSource {
  /** Name for messages. */
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /** `length` bytes from `offset`; the range lies inside the source, and the result is only valid until the next read. */
  read(offset: number, length: number): Uint8Array;
}

/** A `ByteSource` over bytes in memory. */
export function bytesOf(bytes: Uint8Array, name = 'memory'): ByteSource {
  return { name, size: bytes.length, read: (offset, length) => bytes.subarray(offset, offset + length) };
}

const pageBytes = 1 << 18;

/** A regular file read in pages of 256 KiB, so that a parser may ask for a few bytes at a time. Close it after use. */
export class FileBytes implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #file: number;
  #page: Uint8Array = new Uint8Array(0);
  #pageStart = 0;

  /** Throws `FormatError` when the file cannot be opened or is no regular file. */
  constructor(path: string) {
    this.name = path;
    try {
      this.#file = openSync(path, 'r');
    } catch (cause) {
      throw new FormatError(`${path}: cannot be opened; ${(cause as Error).message}`, { cause });
    }
    const status = fstatSync(this.#file);
    this.size = status.size;
    if (!status.isFile()) {
      this.close();
      throw new FormatError(`${path}: is not a regular file`);
    }
  }

  read(offset: number, length: number): Uint8Array {
    if (offset < this.#pageStart || offset + length > this.#pageStart + this.#page.length) {
      const wanted = Math.min(Math.max(length, pageBytes), this.size - offset);
      this.#page = this.#fill(offset, Math.max(wanted, length));
      this.#pageStart = offset;
    }
    const start = offset - this.#pageStart;
    return this.#page.subarray(start, start + length);
  }

  close(): void {
    closeSync(this.#file);
  }

  #fill(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      let got: number;
      try {
        got = readSync(this.#file, bytes, done, length - done, offset + done);
      } catch (cause) {
        throw new FormatError(`${this.name}: cannot be read; ${(cause as Error).message}`, { cause });
      }
      if (got === 0) throw new FormatError(`${this.name}: the file is cut off; got ${offset + done} bytes, expected ${this.size}`);
      done += got;
    }
    return bytes;
  }
}

/** Runs `use` with the file open. */
export function withFile<Result>(path: string, use: (source: ByteSource) => Result): Result {
  const source = new FileBytes(path);
  try {
    return use(source);
  } finally {
    source.close();
  }
}
