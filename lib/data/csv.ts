import { FormatError } from '../errors.js';
import { readLines } from './lines.js';
import type { Row } from './row.js';

/**
 * Comma-separated values (RFC 4180) with a header line: fields may be quoted, quotes inside are doubled, quoted fields may hold line ends.
 * Every value is a string.
 */
export async function* readCsv(path: string, delimiter: string): AsyncGenerator<Row> {
  let header: readonly string[] | undefined;
  for await (const { fields, line } of readRecords(path, delimiter)) {
    const where = `${path}:${line}`;
    if (header === undefined) {
      const repeated = fields.find((name, index) => fields.indexOf(name) !== index);
      if (repeated !== undefined) throw new FormatError(`${where}: column "${repeated}" appears twice in the header`);
      header = fields;
      continue;
    }
    if (fields.length === 1 && fields[0] === '') continue;
    if (fields.length !== header.length) {
      throw new FormatError(`${where}: wrong number of columns; got ${fields.length}, expected ${header.length} as in the header`);
    }
    yield { value: Object.fromEntries(header.map((name, index) => [name, fields[index]])), where };
  }
}

interface CsvRecord {
  readonly fields: readonly string[];
  readonly line: number;
}

async function* readRecords(path: string, delimiter: string): AsyncGenerator<CsvRecord> {
  let pending = '';
  let first = 0;
  for await (const { text, number } of readLines(path)) {
    if (first === 0) first = number;
    pending = first === number ? text : `${pending}\n${text}`;
    const fields = split(pending, delimiter, `${path}:${first}`);
    if (fields === undefined) continue;
    yield { fields, line: first };
    first = 0;
  }
  if (first !== 0) throw new FormatError(`${path}:${first}: a quoted field is never closed`);
}

/** The fields of one record, or undefined while a quoted field is still open. */
function split(record: string, delimiter: string, where: string): string[] | undefined {
  const fields: string[] = [];
  let at = 0;
  for (;;) {
    if (record[at] === '"') {
      let value = '';
      for (at++; ; ) {
        const quote = record.indexOf('"', at);
        if (quote === -1) return undefined;
        value += record.slice(at, quote);
        at = quote + 1;
        if (record[at] !== '"') break;
        value += '"';
        at++;
      }
      if (at < record.length && record[at] !== delimiter) throw new FormatError(`${where}: text after the closing quote of a field`);
      fields.push(value);
    } else {
      const end = record.indexOf(delimiter, at);
      fields.push(record.slice(at, end === -1 ? undefined : end));
      at = end === -1 ? record.length : end;
    }
    if (at >= record.length) return fields;
    at++;
    if (at === record.length) return [...fields, ''];
  }
}
