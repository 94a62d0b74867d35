import { type Stats, statSync } from 'node:fs';
import { extname } from 'node:path';
import { ConfigError } from '../../errors.js';
import type { Row } from '../row.js';
import { CsvReader } from './csv.js';
import { readJson } from './json.js';
import { jsonLinesReader } from './jsonl.js';
import { readParquet } from './parquet.js';
import { type FoundRow, type RecordReader, readRecords } from './record-reader.js';
import { type ReadOptions, readPieces, textReader } from './text.js';

/** How a kind of file is read: made of records that lines make up, or in a way of its own. */
type Format = { readonly records: (path: string) => RecordReader } | { readonly rows: (path: string) => AsyncIterable<FoundRow> };

const formats: Readonly<Record<string, Format>> = {
  '.jsonl': { records: jsonLinesReader },
  '.ndjson': { records: jsonLinesReader },
  '.json': { rows: readJson },
  '.csv': { records: (path) => new CsvReader(path, ',') },
  '.tsv': { records: (path) => new CsvReader(path, '\t') },
  '.parquet': { rows: readParquet },
  '.txt': { records: textReader },
};

/**
 * The rows of a `.jsonl`, `.json`, `.csv`, `.tsv`, `.parquet` or `.txt` file, in file order, read as they are asked for.
 *
 * Throws `ConfigError` for a missing file or an unknown extension, `FormatError` with file and line for a broken row.
 */
export function readRows(path: string, options: ReadOptions = {}): AsyncIterable<Row> {
  return parsed(findRows(path, options));
}

async function* parsed(found: AsyncIterable<FoundRow>): AsyncGenerator<Row> {
  for await (const row of found) yield row.parse();
}

/** The rows of a file before they are parsed. Throws `ConfigError` as `readRows` does. */
export function findRows(path: string, options: ReadOptions = {}): AsyncIterable<FoundRow> {
  const { format } = checkFile(path, options);
  if ('rows' in format) return format.rows(path);
  return separatorOf(options) === '\n' ? readRecords(path, format.records(path)) : readPieces(path, separatorOf(options));
}

/** The reader of a file that is made of records, so that single rows of it can be found by their place; else undefined. */
export function recordReaderOf(path: string, options: ReadOptions = {}): RecordReader | undefined {
  const { format } = checkFile(path, options);
  return 'records' in format && separatorOf(options) === '\n' ? format.records(path) : undefined;
}

const separatorOf = ({ separator = '\n' }: ReadOptions): string => separator;

/** What the system says of a file; undefined where there is none. Throws `ConfigError` where it refuses to say. */
export function stateOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (cause) {
    throw new ConfigError(`data: cannot read "${path}"; ${(cause as Error).message}`, { cause });
  }
}

/** The format and the state of a file that `readRows` takes. */
export function checkFile(
  path: string,
  options: ReadOptions,
): { readonly format: Format; readonly extension: string; readonly stat: Stats } {
  const extension = extname(path).toLowerCase();
  const format = Object.hasOwn(formats, extension) ? formats[extension] : undefined;
  if (format === undefined) {
    throw new ConfigError(
      `data: "${path}" has an unknown extension; got "${extension}", expected one of ${Object.keys(formats).join(', ')}`,
    );
  }
  if (options.separator !== undefined && extension !== '.txt') {
    throw new ConfigError(`data: "separator" is for .txt files only; got it for "${path}"`);
  }
  const stat = stateOf(path);
  if (stat === undefined) throw new ConfigError(`data: no file "${path}"`);
  if (!stat.isFile()) throw new ConfigError(`data: "${path}" is not a file`);
  return { format, extension, stat };
}
