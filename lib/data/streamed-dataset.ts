import { stat } from 'node:fs/promises';
import { FormatError, throwIfAborted } from '../errors.js';
import { RowEncoder } from './bad-rows.js';
import { type DatasetOptions, kEncodedTogether, noRows, type RowOptions, type RowSet, summaryOf } from './dataset.js';
import type { TextTokenizer } from './encode.js';
import { openRowFile } from './files/row-files.js';
import { languageRows } from './language-rows.js';
import type { EncodedRow, RowEncoding } from './row-encoding.js';
import { type DataSource, sourceName } from './source.js';

/**
 * Opens a source for reading its rows from the file when they are asked for. A text file is read once to find where its rows begin (8 bytes a row stay in
 * memory); of a Parquet file whole row groups are decoded, and the last ones are kept.
 *
 * Throws `ConfigError` for a missing or empty source and for a kind of file that cannot be streamed. `rows` and `lengths` throw `FormatError` naming the file
 * where it was removed or changed since, and naming file and line for a bad row.
 */
export async function openStreamedDataset(
  source: DataSource & { readonly path: string },
  tokenizer: TextTokenizer,
  options: DatasetOptions,
): Promise<RowSet> {
  return openStreamedRows(source, languageRows(tokenizer, options.sequence)(source), options);
}

/** The same with rows of any kind. */
export async function openStreamedRows<R extends EncodedRow>(
  source: DataSource & { readonly path: string },
  encoding: RowEncoding<R>,
  options: RowOptions,
): Promise<RowSet<R>> {
  const { path } = source;
  const encoder = new RowEncoder(encoding, options);
  const opened = await stateOf(path);
  const file = await openRowFile(source, options);
  if (file.length === 0) throw noRows(sourceName(source), encoder.skipped);
  let known: Promise<Uint32Array> | undefined;
  const set: RowSet<R> = {
    length: file.length,
    name: path,
    sources: [{ ...summaryOf(source, file.length), bytes: opened.size }],
    longest: undefined,
    ...(encoding.join && { join: encoding.join }),
    get skipped() {
      return encoder.skipped;
    },
    async rows(indices) {
      await checkUnchanged(path, opened);
      const found = await file.find(indices);
      // A file that was written to in the meantime must not give a row that is half old.
      await checkUnchanged(path, opened);
      return encoder.encode(found);
    },
    lengths(progress = {}) {
      known ??= measure(set, encoding, progress);
      return known;
    },
    close: () => file.close(),
  };
  return set;
}

interface FileState {
  readonly size: number;
  readonly modified: number;
}

async function stateOf(path: string): Promise<FileState> {
  const { size, mtimeMs } = await stat(path);
  return { size, modified: mtimeMs };
}

async function checkUnchanged(path: string, opened: FileState): Promise<void> {
  let now: FileState;
  try {
    now = await stateOf(path);
  } catch (cause) {
    throw new FormatError(`${path}: the file is gone while it is streamed; ${(cause as Error).message}`, { cause });
  }
  if (now.size !== opened.size)
    throw new FormatError(`${path}: the file was changed while it is streamed; got ${now.size} bytes, expected ${opened.size}`);
  if (now.modified !== opened.modified)
    throw new FormatError(`${path}: the file was changed while it is streamed; got another time of change, expected that of the start`);
}

/** Tokens of every row: 4 bytes a row. */
async function measure<R extends EncodedRow>(
  set: RowSet<R>,
  { length }: RowEncoding<R>,
  { signal, onProgress }: Pick<RowOptions, 'signal' | 'onProgress'>,
): Promise<Uint32Array> {
  const lengths = new Uint32Array(set.length);
  for (let start = 0; start < set.length; start += kEncodedTogether) {
    throwIfAborted(signal, 'data');
    const indices = Array.from({ length: Math.min(kEncodedTogether, set.length - start) }, (_, index) => start + index);
    for (const [index, row] of (await set.rows(indices)).entries()) lengths[start + index] = row === undefined ? 0 : length(row);
    onProgress?.({ rows: Math.min(start + kEncodedTogether, set.length) });
  }
  return lengths;
}
