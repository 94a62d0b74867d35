import { decodeLine, isBlank } from './lines.js';
import { type FoundRow, lineReader, type RecordReader } from './record-reader.js';
import { readWhole } from './whole-file.js';

export interface ReadOptions {
  /** `.txt` only: what stands between two rows. Default a line end; `''` makes the whole file one row. */
  readonly separator?: string;
}

/** Plain text as rows `{ text }`: every line that is not blank. */
export function textReader(path: string): RecordReader {
  return lineReader(
    path,
    (line) => !isBlank(line),
    (line, where) => ({ value: { text: decodeLine(line, path) }, where }),
  );
}

/** Plain text as rows `{ text }`: every piece between separators with the white space around it removed. */
export async function* readPieces(path: string, separator: string): AsyncGenerator<FoundRow> {
  const whole = (await readWhole(path, 'use a line end as separator')).replaceAll('\r\n', '\n');
  let line = 1;
  for (const piece of separator === '' ? [whole] : whole.split(separator)) {
    const text = piece.trim();
    const leading = piece.length - piece.trimStart().length;
    const where = `${path}:${line + countNewlines(piece.slice(0, leading))}`;
    if (text !== '') yield { where, parse: () => ({ value: { text }, where }) };
    line += countNewlines(piece) + countNewlines(separator);
  }
}

function countNewlines(text: string): number {
  let count = 0;
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) count++;
  return count;
}
