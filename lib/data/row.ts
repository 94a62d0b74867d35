import { didYouMean, FormatError } from '../errors.js';

/** One record of a data file, with the place it came from for error messages (`notes.jsonl:17`). */
export interface Row {
  readonly value: Readonly<Record<string, unknown>>;
  readonly where: string;
}

/** `value` as the record of a row; anything but an object is an error at `where`. */
export function toRow(value: unknown, where: string): Row {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    const got = value === null ? 'null' : Array.isArray(value) ? 'an array' : `a ${typeof value}`;
    throw new FormatError(`${where}: a row must be an object; got ${got}`);
  }
  return { value: value as Record<string, unknown>, where };
}

/** The value of a field. Throws `FormatError` where it is missing or null. */
export function fieldOf(row: Row, name: string): unknown {
  const value = row.value[name];
  if (value !== undefined && value !== null && Object.hasOwn(row.value, name)) return value;
  const names = Object.keys(row.value);
  const got = names.length === 0 ? 'no fields' : `fields ${names.map((key) => `"${key}"`).join(', ')}`;
  const isNothing = Object.hasOwn(row.value, name);
  const problem = isNothing ? `field "${name}" is ${value}` : `no field "${name}"`;
  throw new FormatError(`${row.where}: ${problem}; got ${got}${isNothing ? '' : didYouMean(name, names)}`);
}

/** Characters of a value that a message shows. */
const kShown = 60;

/** A value of a field for a message, as JSON. */
export function describeValue(value: unknown): string {
  const text = JSON.stringify(value, (_, part: unknown) => (typeof part === 'bigint' ? String(part) : part)) ?? String(value);
  return text.length > kShown ? `${text.slice(0, kShown - 1)}…` : text;
}

/** An argument for a message: as JSON, or what kind of object it is. */
export function describeInput(value: unknown): string {
  if (typeof value === 'function') return 'a function';
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return describeValue(value);
  const kind = value.constructor?.name ?? 'Object';
  if (kind !== 'Object') return `a ${kind}`;
  const keys = Object.keys(value);
  return keys.length === 0 ? 'an empty object' : `an object with ${keys.slice(0, 5).join(', ')}`;
}
