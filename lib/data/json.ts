import { readFile } from 'node:fs/promises';
import { FormatError } from '../errors.js';
import { type Row, toRow } from './row.js';

/** A JSON array of objects, held in memory while it is read. */
export async function* readJson(path: string): AsyncGenerator<Row> {
  let rows: unknown;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path));
    rows = JSON.parse(text);
  } catch (cause) {
    throw new FormatError(`${path}: not valid JSON; ${(cause as Error).message}`, { cause });
  }
  if (!Array.isArray(rows)) throw new FormatError(`${path}: expected an array of objects; got ${rows === null ? 'null' : typeof rows}`);
  for (const [index, row] of rows.entries()) yield toRow(row, `${path}: row ${index + 1}`);
}
