import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { FormatError } from '../errors.js';
import { isJsonObject, type JsonObject } from '../io/json.js';

/** SHA-256 of every file below `folder`, by its path in it with `/`, sorted. */
export async function fileChecksums(folder: string, without: string): Promise<Record<string, string>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const names = entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).replaceAll('\\', '/'))
    .filter((name) => name !== without);
  const sums: Record<string, string> = {};
  for (const name of names.sort()) sums[name] = await fileChecksum(join(folder, name));
  return sums;
}

/** SHA-256 of the JSON text of a value. */
export const jsonChecksum = (value: JsonObject): string => createHash('sha256').update(JSON.stringify(value)).digest('hex');

/** Throws `FormatError` that names the first file below `folder` that is missing or does not have its checksum. */
export async function checkFiles(folder: string, sums: unknown): Promise<void> {
  if (!isJsonObject(sums)) throw new FormatError(`${folder}: damaged; the list of its files is missing`);
  for (const [name, expected] of Object.entries(sums)) {
    const path = join(folder, name);
    let got: string;
    try {
      got = await fileChecksum(path);
    } catch (cause) {
      throw new FormatError(`${path}: damaged; cannot be read; ${(cause as Error).message}`, { cause });
    }
    if (got !== expected) throw new FormatError(`${path}: damaged; got SHA-256 ${got}, expected ${String(expected)}`);
  }
}

async function fileChecksum(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}
