import { readFile, stat } from 'node:fs/promises';
import { FormatError } from '../errors.js';

/** A JSON object as read from a file: values are checked by who uses them. */
export type JsonObject = { readonly [key: string]: unknown };

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const maxJsonBytes = 512 * 2 ** 20;

/** Parses the JSON object in `bytes`; throws `FormatError` beginning with `file` for anything else. */
export function parseJsonObject(bytes: Uint8Array, file: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new FormatError(`${file}: is not valid JSON; ${(cause as Error).message}`, { cause });
  }
  if (!isJsonObject(value)) throw new FormatError(`${file}: expected a JSON object; got ${describeJson(value)}`);
  return value;
}

/** Reads a JSON object from a file of at most 512 MiB. */
export async function readJsonObject(path: string): Promise<JsonObject> {
  const found = await readJsonObjectIfAny(path);
  if (found === undefined) throw new FormatError(`${path}: no such file`);
  return found;
}

/** The same, or undefined when there is no such file. */
export async function readJsonObjectIfAny(path: string): Promise<JsonObject | undefined> {
  try {
    const { size } = await stat(path);
    if (size > maxJsonBytes)
      throw new FormatError(`${path}: is too large for a JSON file; got ${size} bytes, expected at most ${maxJsonBytes}`);
    return parseJsonObject(await readFile(path), path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    if (error instanceof FormatError) throw error;
    throw new FormatError(`${path}: cannot be read; ${(error as Error).message}`, { cause: error });
  }
}

/** What a JSON value is, in words of a message. */
export function describeJson(value: unknown): string {
  if (value === null) return 'null';
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object') return 'an object';
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
