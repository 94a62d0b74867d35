import { FormatError } from '../errors.js';
import { readLines } from './lines.js';
import { type Row, toRow } from './row.js';

/** One JSON object a line; empty lines are skipped. */
export async function* readJsonLines(path: string): AsyncGenerator<Row> {
  for await (const { text, number } of readLines(path)) {
    if (text.trim() === '') continue;
    const where = `${path}:${number}`;
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      throw new FormatError(`${where}: not a JSON object; ${(cause as Error).message}`, { cause });
    }
    yield toRow(value, where);
  }
}
