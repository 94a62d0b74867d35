import { FormatError } from '../../errors.js';
import { toRow } from '../row.js';
import { repeatedKey } from './json-keys.js';
import { decodeLine, isBlank } from './lines.js';
import { lineReader, type RecordReader } from './record-reader.js';

/** One JSON object a line; blank lines are skipped. */
export function jsonLinesReader(path: string): RecordReader {
  return lineReader(
    path,
    (line) => !isBlank(line),
    (line, where) => {
      const text = decodeLine(line, path);
      let value: unknown;
      try {
        value = JSON.parse(text);
      } catch (cause) {
        throw new FormatError(`${where}: not a JSON object; ${(cause as Error).message}`, { cause });
      }
      const row = toRow(value, where);
      const repeated = repeatedKey(text, row.value);
      if (repeated !== undefined) throw new FormatError(`${where}: the key "${repeated}" appears twice; expected each key once`);
      return row;
    },
  );
}
