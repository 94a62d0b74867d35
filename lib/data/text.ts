import { readFile } from 'node:fs/promises';
import { FormatError } from '../errors.js';
import { readLines } from './lines.js';
import type { Row } from './row.js';

export interface ReadOptions {
  /** `.txt` only: what stands between two rows. Default a line end; `''` makes the whole file one row. */
  readonly separator?: string;
}

/**
 * Plain text as rows `{ text }`: every line that is not blank, or, with a `separator` other than a line end, every piece between separators
 * with the white space around it removed.
 */
export async function* readText(path: string, options: ReadOptions): AsyncGenerator<Row> {
  const separator = options.separator ?? '\n';
  if (separator === '\n') {
    for await (const { text, number } of readLines(path)) {
      if (text.trim() !== '') yield { value: { text }, where: `${path}:${number}` };
    }
    return;
  }
  let whole: string;
  try {
    whole = new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path)).replaceAll('\r\n', '\n');
  } catch (cause) {
    throw new FormatError(`${path}: not valid UTF-8; expected UTF-8 text`, { cause });
  }
  let line = 1;
  for (const piece of separator === '' ? [whole] : whole.split(separator)) {
    const text = piece.trim();
    const leading = piece.length - piece.trimStart().length;
    if (text !== '') yield { value: { text }, where: `${path}:${line + countNewlines(piece.slice(0, leading))}` };
    line += countNewlines(piece) + countNewlines(separator);
  }
}

function countNewlines(text: string): number {
  let count = 0;
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) count++;
  return count;
}
