import { FormatError } from '../errors.js';
import type { ByteSource } from './byte-source.js';

/** A metadata value; whole numbers beyond 2^53 are bigints. */
export type GgufValue = number | bigint | boolean | string | readonly GgufValue[];

// Limits far above any published file, so that a lying count costs neither time nor memory.
const maxStringBytes = 1 << 24;
const maxElements = 1 << 24;
const maxNesting = 4;

interface Scalar {
  readonly bytes: number;
  readonly read: (view: DataView) => number | bigint | boolean;
}

const smallest = (value: bigint): number | bigint =>
  value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;

const scalars: { readonly [id: number]: Scalar } = {
  0: { bytes: 1, read: (view) => view.getUint8(0) },
  1: { bytes: 1, read: (view) => view.getInt8(0) },
  2: { bytes: 2, read: (view) => view.getUint16(0, true) },
  3: { bytes: 2, read: (view) => view.getInt16(0, true) },
  4: { bytes: 4, read: (view) => view.getUint32(0, true) },
  5: { bytes: 4, read: (view) => view.getInt32(0, true) },
  6: { bytes: 4, read: (view) => view.getFloat32(0, true) },
  7: { bytes: 1, read: (view) => view.getUint8(0) !== 0 },
  10: { bytes: 8, read: (view) => smallest(view.getBigUint64(0, true)) },
  11: { bytes: 8, read: (view) => smallest(view.getBigInt64(0, true)) },
  12: { bytes: 8, read: (view) => view.getFloat64(0, true) },
};
const stringType = 8;
const arrayType = 9;

/** Reads the primitive values of a GGUF file front to back; every length is checked against the rest of the file before it is used. */
export class GgufCursor {
  position = 0;
  readonly #source: ByteSource;
  readonly #strict = new TextDecoder('utf-8', { fatal: true });
  readonly #lenient = new TextDecoder();

  constructor(source: ByteSource) {
    this.#source = source;
  }

  get remaining(): number {
    return this.#source.size - this.position;
  }

  fail(what: string): FormatError {
    return new FormatError(`${this.#source.name}: ${what} (at byte ${this.position})`);
  }

  #take(bytes: number, what: string): Uint8Array {
    if (bytes > this.remaining) throw this.fail(`${what} does not fit the file; got ${bytes} bytes, expected at most ${this.remaining}`);
    const taken = this.#source.read(this.position, bytes);
    this.position += bytes;
    return taken;
  }

  #view(bytes: number, what: string): DataView {
    const taken = this.#take(bytes, what);
    return new DataView(taken.buffer, taken.byteOffset, bytes);
  }

  u32(what: string): number {
    return this.#view(4, what).getUint32(0, true);
  }

  /** A 64-bit count, length or offset of at most `limit`. */
  count(what: string, limit: number): number {
    const value = this.#view(8, what).getBigUint64(0, true);
    if (value > BigInt(limit)) throw this.fail(`${what} is too large; got ${value}, expected at most ${limit}`);
    return Number(value);
  }

  /** A text that is part of the structure and must be valid UTF-8. */
  name(what: string, limit: number): string {
    const length = this.count(`length of ${what}`, limit);
    try {
      return this.#strict.decode(this.#take(length, what));
    } catch (error) {
      if (error instanceof FormatError) throw error;
      throw this.fail(`${what} is not valid UTF-8`);
    }
  }

  #text(what: string): string {
    return this.#lenient.decode(this.#take(this.count(`length of ${what}`, maxStringBytes), what));
  }

  /** A metadata value of the given type number; `what` names it in messages. */
  value(type: number, what: string, depth = 0): GgufValue {
    const scalar = scalars[type];
    if (scalar !== undefined) return scalar.read(this.#view(scalar.bytes, what));
    if (type === stringType) return this.#text(what);
    if (type === arrayType && depth < maxNesting) return this.#array(what, depth);
    throw this.fail(type === arrayType ? `${what} nests too deep` : `${what} has an unknown type; got ${type}, expected 0 to 12`);
  }

  #array(what: string, depth: number): GgufValue[] {
    const type = this.u32(`element type of ${what}`);
    const least = scalars[type]?.bytes ?? (type === arrayType ? 12 : 8);
    const count = this.count(`length of ${what}`, maxElements);
    if (count * least > this.remaining) throw this.fail(`${what} does not fit the file; got ${count} elements, expected at most ${Math.floor(this.remaining / least)}`);
    const values: GgufValue[] = [];
    for (let i = 0; i < count; i++) values.push(this.value(type, what, depth + 1));
    return values;
  }
}
