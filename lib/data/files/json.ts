import { FormatError } from '../../errors.js';
import { toRow } from '../row.js';
import type { FoundRow } from './record-reader.js';
import { readWhole } from './whole-file.js';

/** A JSON array of objects, held in memory while it is read. */
export async function* readJson(path: string): AsyncGenerator<FoundRow> {
  const text = await readWhole(path, 'write its rows as .jsonl, one a line');
  let rows: unknown;
  try {
    rows = JSON.parse(text);
  } catch (cause) {
    throw new FormatError(`${path}: not valid JSON; ${(cause as Error).message}`, { cause });
  }
  if (!Array.isArray(rows)) throw new FormatError(`${path}: expected an array of objects; got ${rows === null ? 'null' : typeof rows}`);
  for (const [index, row] of rows.entries()) {
    const where = `${path}: row ${index + 1}`;
    yield { where, parse: () => toRow(row, where) };
  }
}
