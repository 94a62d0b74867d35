import { ConfigError } from '../errors.js';
import type { JsonObject } from './json.js';

/** True for values that switch nothing on. */
export function isNeutral(value: unknown): boolean {
  if (value === null || value === undefined || value === false) return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

type Kind = 'string' | 'strings' | 'names' | 'number' | 'boolean' | 'layers';

const kinds: Record<Kind, { readonly name: string; readonly is: (value: unknown) => boolean }> = {
  string: { name: 'a string', is: (value) => typeof value === 'string' },
  strings: { name: 'a list of strings', is: (value) => Array.isArray(value) && value.every((entry) => typeof entry === 'string') },
  names: { name: 'a string or a list of strings', is: (value) => kinds.string.is(value) || kinds.strings.is(value) },
  number: { name: 'a number', is: (value) => typeof value === 'number' },
  boolean: { name: 'true or false', is: (value) => typeof value === 'boolean' },
  layers: {
    name: 'a number or a list of numbers',
    is: (value) => kinds.number.is(value) || (Array.isArray(value) && value.every(kinds.number.is)),
  },
};

/** The value of a key, checked; `fallback` where the key is missing or null. */
export function readValue<T>(file: JsonObject, key: string, kind: Kind, fallback: T): T {
  const value = file[key];
  if (value === undefined || value === null) return fallback;
  if (!kinds[kind].is(value))
    throw new ConfigError(`adapter_config.json: "${key}" must be ${kinds[kind].name}; got ${JSON.stringify(value)}`);
  return value as T;
}

/** A key that is a value of `kind` or a word; `fallback` where the key is missing or null. */
export function readEither<T>(file: JsonObject, key: string, kind: Kind, word: string, fallback: T): T {
  return file[key] === word ? (word as T) : readValue(file, key, kind, fallback);
}
