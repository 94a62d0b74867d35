import { FormatError } from '../../errors.js';
import type { Row } from '../row.js';
import { decodeLine, isBlank, kMaxRowBytes, type RawLine, tooLong } from './lines.js';
import type { FoundRecord, RecordReader } from './record-reader.js';

/**
 * Comma-separated values (RFC 4180) with a header line: fields may be quoted, quotes inside are doubled, quoted fields may hold line ends.
 * Every value is a string.
 */
export class CsvReader implements RecordReader {
  readonly #path: string;
  readonly #delimiter: string;
  #header: readonly string[] | undefined;
  #lines: RawLine[] = [];
  #first: RawLine | undefined;
  #size = 0;
  #open = false;

  constructor(path: string, delimiter: string, header?: readonly string[]) {
    this.#path = path;
    this.#delimiter = delimiter;
    this.#header = header;
  }

  push(line: RawLine): FoundRecord | undefined {
    if (this.#first === undefined && isBlank(line)) return undefined;
    this.#first ??= line;
    this.#size += line.size + 1;
    if (this.#size > kMaxRowBytes) this.#lines = [];
    else this.#lines.push(line);
    this.#open = openAfter(line.bytes.toString('latin1'), this.#delimiter, this.#open);
    return this.#open ? undefined : this.#finish(this.#first);
  }

  end(): void {
    if (this.#first !== undefined) throw new FormatError(`${this.#path}:${this.#first.number}: a quoted field is never closed`);
  }

  again(): RecordReader {
    return new CsvReader(this.#path, this.#delimiter, this.#header);
  }

  #finish({ number, offset }: RawLine): FoundRecord | undefined {
    const where = `${this.#path}:${number}`;
    const lines = this.#lines;
    const size = this.#size;
    this.#lines = [];
    this.#first = undefined;
    this.#size = 0;
    const fields = (): string[] => {
      if (size > kMaxRowBytes) throw tooLong(where, size);
      return split(lines.map((line) => decodeLine(line, this.#path)).join('\n'), this.#delimiter, where);
    };
    if (this.#header !== undefined) {
      const header = this.#header;
      return { where, offset, line: number, parse: () => rowOf(fields(), header, where) };
    }
    const header = fields();
    const repeated = header.find((name, index) => header.indexOf(name) !== index);
    if (repeated !== undefined) throw new FormatError(`${where}: column "${repeated}" appears twice in the header`);
    this.#header = header;
    return undefined;
  }
}

function rowOf(fields: readonly string[], header: readonly string[], where: string): Row {
  if (fields.length !== header.length) {
    throw new FormatError(`${where}: wrong number of columns; got ${fields.length}, expected ${header.length} as in the header`);
  }
  return { value: Object.fromEntries(header.map((name, index) => [name, fields[index]])), where };
}

/** Whether a quoted field is open at the end of a line, when one was (`open`) at its beginning. */
function openAfter(line: string, delimiter: string, open: boolean): boolean {
  let inside = open;
  for (let at = 0; ; ) {
    if (inside) {
      const quote = line.indexOf('"', at);
      if (quote === -1) return true;
      at = quote + 1;
      if (line[at] === '"') at++;
      else inside = false;
    } else if (at < line.length && line[at] === '"' && (at === 0 || line[at - 1] === delimiter)) {
      inside = true;
      at++;
    } else {
      const next = line.indexOf(delimiter, at);
      if (next === -1) return false;
      at = next + 1;
    }
  }
}

/** The fields of one record. */
function split(record: string, delimiter: string, where: string): string[] {
  const fields: string[] = [];
  let at = 0;
  for (;;) {
    if (record[at] === '"') {
      let value = '';
      for (at++; ; ) {
        const quote = record.indexOf('"', at);
        if (quote === -1) throw new FormatError(`${where}: a quoted field is never closed`);
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
