import { type FileHandle, open, stat } from 'node:fs/promises';
import { ConfigError, FormatError } from '../../errors.js';
import type { DatasetOptions } from '../dataset.js';
import type { DataSource } from '../source.js';
import { FileIndex } from './file-index.js';
import { cannotRead, kMaxRowBytes, LineSplitter, tooLong } from './lines.js';
import { ParquetFile } from './parquet.js';
import { checkFile, recordReaderOf } from './read-rows.js';
import type { FoundRow, RecordReader } from './record-reader.js';

/** A file of which single rows can be read. */
export interface RowFile {
  readonly length: number;
  /** Rows by their numbers, from 0, before they are parsed. */
  find(rows: readonly number[]): Promise<FoundRow[]>;
  close(): Promise<void>;
}

type Progress = Pick<DatasetOptions, 'signal' | 'onProgress'>;

/** Opens the file of a source for reading row by row. Throws `ConfigError` for a kind of file that can only be read as a whole. */
export async function openRowFile(source: DataSource & { readonly path: string }, options: Progress): Promise<RowFile> {
  const { path, separator } = source;
  const readOptions = separator === undefined ? {} : { separator };
  const { extension } = checkFile(path, readOptions);
  if (extension === '.parquet') return new ParquetRows(await ParquetFile.open(path));
  const reader = recordReaderOf(path, readOptions);
  if (reader === undefined)
    throw new ConfigError(
      `data: "${path}" cannot be streamed; expected .jsonl, .csv, .tsv, .parquet, or .txt with a row a line; write its rows as .jsonl, or use \`streaming: false\``,
    );
  const { size } = await stat(path);
  return new TextRows(path, reader, await FileIndex.build(path, reader, size, options));
}

/** Rows of a text file, found by the bytes at which they begin. */
class TextRows implements RowFile {
  readonly #path: string;
  readonly #reader: RecordReader;
  readonly #index: FileIndex;
  #handle: Promise<FileHandle> | undefined;

  constructor(path: string, reader: RecordReader, index: FileIndex) {
    this.#path = path;
    this.#reader = reader;
    this.#index = index;
  }

  get length(): number {
    return this.#index.length;
  }

  async find(rows: readonly number[]): Promise<FoundRow[]> {
    this.#handle ??= open(this.#path);
    try {
      const handle = await this.#handle;
      const found: FoundRow[] = [];
      // One after the other: a row may be large.
      for (const row of rows) found.push(await this.#read(handle, row));
      return found;
    } catch (cause) {
      throw cannotRead(this.#path, cause);
    }
  }

  async #read(handle: FileHandle, row: number): Promise<FoundRow> {
    const { start, end, line } = this.#index.place(row);
    const where = `${this.#path}:${line}`;
    const length = end - start;
    // Blank lines may follow the row, so that this is no exact measure of it; what is so long is not worth holding.
    if (length > 2 * kMaxRowBytes) return unreadable(tooLong(where, length), where);
    const buffer = Buffer.allocUnsafe(length);
    const { bytesRead } = await handle.read(buffer, 0, length, start);
    if (bytesRead < length)
      throw new FormatError(`${where}: the file was cut off while it was streamed; got ${bytesRead} of ${length} bytes`);
    const splitter = new LineSplitter(this.#path, start, line);
    const reader = this.#reader.again();
    for (const raw of [...splitter.push(buffer), ...splitter.end()]) {
      const record = reader.push(raw);
      if (record !== undefined) return record;
    }
    throw new FormatError(`${where}: the row is gone; the file was changed while it was streamed`);
  }

  async close(): Promise<void> {
    await (await this.#handle)?.close();
    this.#handle = undefined;
  }
}

function unreadable(error: FormatError, where: string): FoundRow {
  return {
    where,
    parse: () => {
      throw error;
    },
  };
}

/** Decoded row groups are kept up to this many bytes of values (and at least one). */
const kGroupBytes = 256 * 1024 * 1024;

/** Rows of a Parquet file; the row groups used last stay decoded. */
class ParquetRows implements RowFile {
  readonly length: number;
  readonly #file: ParquetFile;
  readonly #kept = new Map<number, FoundRow[]>();

  constructor(file: ParquetFile) {
    this.#file = file;
    this.length = file.groups.reduce((sum, { count }) => sum + count, 0);
  }

  async find(rows: readonly number[]): Promise<FoundRow[]> {
    const found = new Map<number, FoundRow>();
    // By group, so that each is decoded once.
    for (const row of [...rows].sort((a, b) => a - b)) {
      const index = this.#file.groups.findLastIndex(({ start }) => start <= row);
      const group = await this.#group(index);
      found.set(row, group[row - (this.#file.groups[index]?.start ?? 0)] as FoundRow);
    }
    return rows.map((row) => found.get(row) as FoundRow);
  }

  async #group(index: number): Promise<FoundRow[]> {
    const rows = this.#kept.get(index) ?? (await this.#file.read(index));
    this.#kept.delete(index);
    this.#kept.set(index, rows);
    const bytes = (): number => [...this.#kept.keys()].reduce((sum, kept) => sum + (this.#file.groups[kept]?.bytes ?? 0), 0);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size === 1 || bytes() <= kGroupBytes) break;
      this.#kept.delete(oldest);
    }
    return rows;
  }

  async close(): Promise<void> {
    this.#kept.clear();
  }
}
