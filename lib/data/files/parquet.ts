import type { AsyncBuffer, FileMetaData } from 'hyparquet';
import { ConfigError, FormatError } from '../../errors.js';
import { toRow } from '../row.js';
import type { FoundRow } from './record-reader.js';

/** A Parquet file (uncompressed, snappy, gzip, zstd, brotli, lz4), read one row group at a time. */
export async function* readParquet(path: string): AsyncGenerator<FoundRow> {
  const file = await ParquetFile.open(path);
  for (let group = 0; group < file.groups.length; group++) yield* await file.read(group);
}

/** A row group: rows `start` to `start + count - 1` of the file, from 0. */
export interface RowGroup {
  readonly start: number;
  readonly count: number;
  /** Of the group's values before compression. */
  readonly bytes: number;
}

export class ParquetFile {
  readonly path: string;
  readonly groups: readonly RowGroup[];
  readonly #file: AsyncBuffer;
  readonly #metadata: FileMetaData;

  private constructor(path: string, file: AsyncBuffer, metadata: FileMetaData) {
    this.path = path;
    this.#file = file;
    this.#metadata = metadata;
    let start = 0;
    this.groups = metadata.row_groups.map(({ num_rows, total_byte_size }) => {
      const group = { start, count: Number(num_rows), bytes: Number(total_byte_size) };
      start += group.count;
      return group;
    });
  }

  /** Throws `FormatError` where it is not a Parquet file. */
  static async open(path: string): Promise<ParquetFile> {
    const { asyncBufferFromFile, parquetMetadataAsync } = await import('hyparquet');
    return explained(path, async () => {
      const file = await asyncBufferFromFile(path);
      return new ParquetFile(path, file, await parquetMetadataAsync(file));
    });
  }

  /** The rows of group `index`. */
  async read(index: number): Promise<FoundRow[]> {
    const [{ parquetReadObjects }, { compressors }] = await Promise.all([import('hyparquet'), import('hyparquet-compressors')]);
    const group = this.groups[index] as RowGroup;
    const { start, count } = group;
    const rows = await explained(this.path, () =>
      parquetReadObjects({ file: this.#file, metadata: this.#metadata, rowStart: start, rowEnd: start + count, compressors }),
    );
    return rows.map((row, place) => {
      const where = `${this.path}: row ${start + place + 1}`;
      return { where, parse: () => toRow(plain(row), where) };
    });
  }
}

async function explained<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof FormatError || cause instanceof ConfigError) throw cause;
    throw new FormatError(`${path}: not a readable Parquet file; ${(cause as Error).message}`, { cause });
  }
}

/** Integers of 64 bits come as bigint; those that a number holds exactly become numbers, as in the other formats. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype) {
    return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, plain(entry)]));
  }
  return value;
}
