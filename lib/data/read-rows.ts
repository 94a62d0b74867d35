import { statSync } from 'node:fs';
import { extname } from 'node:path';
import { ConfigError } from '../errors.js';
import { readCsv } from './csv.js';
import { readJson } from './json.js';
import { readJsonLines } from './jsonl.js';
import { readParquet } from './parquet.js';
import type { Row } from './row.js';
import { type ReadOptions, readText } from './text.js';

const readers: Readonly<Record<string, (path: string, options: ReadOptions) => AsyncIterable<Row>>> = {
  '.jsonl': readJsonLines,
  '.ndjson': readJsonLines,
  '.json': readJson,
  '.csv': (path) => readCsv(path, ','),
  '.tsv': (path) => readCsv(path, '\t'),
  '.parquet': readParquet,
  '.txt': readText,
};

/**
 * The rows of a `.jsonl`, `.json`, `.csv`, `.tsv`, `.parquet` or `.txt` file, in file order, read as they are asked for.
 *
 * Throws `ConfigError` for a missing file or an unknown extension, `FormatError` with file and line for a broken row.
 */
export function readRows(path: string, options: ReadOptions = {}): AsyncIterable<Row> {
  const extension = extname(path).toLowerCase();
  const reader = readers[extension];
  if (reader === undefined) {
    throw new ConfigError(
      `data: "${path}" has an unknown extension; got "${extension}", expected one of ${Object.keys(readers).join(', ')}`,
    );
  }
  if (options.separator !== undefined && extension !== '.txt') {
    throw new ConfigError(`data: "separator" is for .txt files only; got it for "${path}"`);
  }
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) throw new ConfigError(`data: no file "${path}"`);
  if (!stat.isFile()) throw new ConfigError(`data: "${path}" is not a file`);
  return reader(path, options);
}
