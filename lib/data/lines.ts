import { createReadStream } from 'node:fs';
import { FormatError } from '../errors.js';

export interface Line {
  readonly text: string;
  /** Counted from 1. */
  readonly number: number;
}

const kNewline = 0x0a;
const kReturn = 0x0d;

/**
 * The lines of a UTF-8 file without their ends (LF or CRLF) and without a byte order mark, read in pieces.
 *
 * Throws `FormatError` naming file and line where bytes are not UTF-8.
 */
export async function* readLines(path: string): AsyncGenerator<Line> {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  let parts: Buffer[] = [];
  let number = 0;

  const finish = (last: Buffer): Line => {
    let bytes = parts.length === 0 ? last : Buffer.concat([...parts, last]);
    parts = [];
    number++;
    if (bytes.at(-1) === kReturn) bytes = bytes.subarray(0, -1);
    try {
      const text = decoder.decode(bytes);
      return { text: number === 1 && text.startsWith('\ufeff') ? text.slice(1) : text, number };
    } catch (cause) {
      throw new FormatError(`${path}:${number}: not valid UTF-8; expected UTF-8 text`, { cause });
    }
  };

  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 18 }) as AsyncIterable<Buffer>) {
    let start = 0;
    for (let end = chunk.indexOf(kNewline); end !== -1; end = chunk.indexOf(kNewline, start)) {
      yield finish(chunk.subarray(start, end));
      start = end + 1;
    }
    if (start < chunk.length) parts.push(chunk.subarray(start));
  }
  if (parts.length > 0) yield finish(Buffer.alloc(0));
}
