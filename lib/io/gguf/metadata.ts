import { FormatError } from '../../errors.js';
import type { GgufValue } from './cursor.js';
import type { GgufHeader } from './parser.js';

const describe = (value: GgufValue): string =>
  Array.isArray(value) ? `a list of ${value.length}` : `${typeof value} ${String(value).slice(0, 60)}`;

/** Typed access to the metadata of a GGUF file; a value of the wrong kind is a `FormatError` that names the key. */
export class GgufMetadata {
  readonly #header: GgufHeader;

  constructor(header: GgufHeader) {
    this.#header = header;
  }

  #wrong(key: string, value: GgufValue | undefined, expected: string): FormatError {
    const got = value === undefined ? 'nothing' : describe(value);
    return new FormatError(`${this.#header.file}: metadata "${key}" is wrong; got ${got}, expected ${expected}`);
  }

  has(key: string): boolean {
    return this.#header.metadata.has(key);
  }

  text(key: string): string | undefined {
    const value = this.#header.metadata.get(key);
    if (value === undefined || typeof value === 'string') return value;
    throw this.#wrong(key, value, 'a text');
  }

  flag(key: string): boolean | undefined {
    const value = this.#header.metadata.get(key);
    if (value === undefined || typeof value === 'boolean') return value;
    throw this.#wrong(key, value, 'true or false');
  }

  /** A finite number; single-precision values come as the shortest decimal that names them (1e-5, not 0.00000999999974). */
  number(key: string): number | undefined {
    const value = this.#header.metadata.get(key);
    if (value === undefined) return undefined;
    if (typeof value !== 'number' || !Number.isFinite(value)) throw this.#wrong(key, value, 'a finite number');
    return shortestSingle(value);
  }

  /** A whole number of at least `least`. */
  whole(key: string, least = 0): number | undefined {
    const value = this.number(key);
    if (value === undefined || (Number.isInteger(value) && value >= least)) return value;
    throw this.#wrong(key, value, `a whole number of at least ${least}`);
  }

  /** A whole number, also where the file has one per layer and all are equal. */
  uniform(key: string, least = 0): number | undefined {
    const value = this.#header.metadata.get(key);
    if (!Array.isArray(value)) return this.whole(key, least);
    const [first] = value as readonly GgufValue[];
    if (typeof first !== 'number' || !Number.isInteger(first) || first < least)
      throw this.#wrong(key, value, `whole numbers of at least ${least}`);
    if (value.some((other) => other !== first)) throw this.#wrong(key, value, 'one value for all layers');
    return first;
  }

  texts(key: string): readonly string[] | undefined {
    const value = this.#header.metadata.get(key);
    if (value === undefined) return undefined;
    if (!Array.isArray(value) || !value.every((entry) => typeof entry === 'string')) throw this.#wrong(key, value, 'a list of texts');
    return value;
  }

  numbers(key: string): readonly number[] | undefined {
    const value = this.#header.metadata.get(key);
    if (value === undefined) return undefined;
    if (!Array.isArray(value) || !value.every((entry) => typeof entry === 'number')) throw this.#wrong(key, value, 'a list of numbers');
    return value;
  }

  /** The value of `read`, or a `FormatError` that the key is missing. */
  required<Value>(key: string, read: (key: string) => Value | undefined): Value {
    const value = read.call(this, key);
    if (value === undefined) throw new FormatError(`${this.#header.file}: metadata "${key}" is missing`);
    return value;
  }
}

function shortestSingle(value: number): number {
  if (Number.isInteger(value) || Math.fround(value) !== value) return value;
  for (let digits = 1; digits < 10; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}
