import { FormatError } from '../../errors.js';
import type { ByteSource } from '../byte-source.js';

/** A metadata value; whole numbers beyond 2^53 are bigints. */
export type GgufValue = number | bigint | boolean | string | readonly GgufValue[];

// Limits far above any published file, so that a lying count costs neither time nor memory.
const maxStringBytes = 1 << 24;
const maxElements = 1 << 24;
const maxNesting = 4;
const pageBytes = 1 << 18;

interface Scalar {
  readonly bytes: number;
  readonly read: (bytes: Buffer, at: number) => number | bigint | boolean;
}

const smallest = (value: bigint): number | bigint =>
  value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;

const scalars: { readonly [id: number]: Scalar } = {
  0: { bytes: 1, read: (bytes, at) => bytes.readUInt8(at) },
  1: { bytes: 1, read: (bytes, at) => bytes.readInt8(at) },
  2: { bytes: 2, read: (bytes, at) => bytes.readUInt16LE(at) },
  3: { bytes: 2, read: (bytes, at) => bytes.readInt16LE(at) },
  4: { bytes: 4, read: (bytes, at) => bytes.readUInt32LE(at) },
  5: { bytes: 4, read: (bytes, at) => bytes.readInt32LE(at) },
  6: { bytes: 4, read: (bytes, at) => bytes.readFloatLE(at) },
  7: { bytes: 1, read: (bytes, at) => bytes.readUInt8(at) !== 0 },
  10: { bytes: 8, read: (bytes, at) => smallest(bytes.readBigUInt64LE(at)) },
  11: { bytes: 8, read: (bytes, at) => smallest(bytes.readBigInt64LE(at)) },
  12: { bytes: 8, read: (bytes, at) => bytes.readDoubleLE(at) },
};
const stringType = 8;
const arrayType = 9;

/** Reads the primitive values of a GGUF file front to back; every length is checked against the rest of the file before it is used. */
export class GgufCursor {
  position = 0;
  readonly #source: ByteSource;
  readonly #strict = new TextDecoder('utf-8', { fatal: true });
  #page: Buffer = Buffer.alloc(0);
  #pageStart = 0;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  get remaining(): number {
    return this.#source.size - this.position;
  }

  fail(what: string): FormatError {
    return new FormatError(`${this.#source.name}: ${what} (at byte ${this.position})`);
  }

  /** Moves over the next bytes, and returns where in the page they begin. */
  #take(bytes: number, what: string): number {
    if (bytes > this.remaining) throw this.fail(`${what} does not fit the file; got ${bytes} bytes, expected at most ${this.remaining}`);
    if (this.position + bytes > this.#pageStart + this.#page.length) {
      const page = this.#source.read(this.position, Math.min(Math.max(bytes, pageBytes), this.remaining));
      this.#page = Buffer.from(page.buffer, page.byteOffset, page.length);
      this.#pageStart = this.position;
    }
    const at = this.position - this.#pageStart;
    this.position += bytes;
    return at;
  }

  u32(what: string): number {
    const at = this.#take(4, what);
    return this.#page.readUInt32LE(at);
  }

  /** A 64-bit count, length or offset of at most `limit`. */
  count(what: string, limit: number): number {
    const at = this.#take(8, what);
    const value = this.#page.readUInt32LE(at + 4) * 2 ** 32 + this.#page.readUInt32LE(at);
    if (value > limit) throw this.fail(`${what} is too large; got ${value}, expected at most ${limit}`);
    return value;
  }

  /** A text that is part of the structure and must be valid UTF-8. */
  name(what: string, limit: number): string {
    const length = this.count(`length of ${what}`, limit);
    const at = this.#take(length, what);
    try {
      return this.#strict.decode(this.#page.subarray(at, at + length));
    } catch {
      throw this.fail(`${what} is not valid UTF-8`);
    }
  }

  #text(what: string): string {
    const length = this.count(what, maxStringBytes);
    const at = this.#take(length, what);
    return this.#page.toString('utf8', at, at + length);
  }

  /** A metadata value of the given type number; `what` names it in messages. */
  value(type: number, what: string, depth = 0): GgufValue {
    const scalar = scalars[type];
    if (scalar !== undefined) {
      const at = this.#take(scalar.bytes, what);
      return scalar.read(this.#page, at);
    }
    if (type === stringType) return this.#text(what);
    if (type === arrayType && depth < maxNesting) return this.#array(what, depth);
    throw this.fail(type === arrayType ? `${what} nests too deep` : `${what} has an unknown type; got ${type}, expected 0 to 12`);
  }

  #array(what: string, depth: number): GgufValue[] {
    const type = this.u32(`element type of ${what}`);
    const least = scalars[type]?.bytes ?? (type === arrayType ? 12 : 8);
    const count = this.count(`length of ${what}`, maxElements);
    if (count * least > this.remaining)
      throw this.fail(`${what} does not fit the file; got ${count} elements, expected at most ${Math.floor(this.remaining / least)}`);
    const values: GgufValue[] = [];
    for (let i = 0; i < count; i++) values.push(this.value(type, what, depth + 1));
    return values;
  }
}
