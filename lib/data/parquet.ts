import { FormatError } from '../errors.js';
import { type Row, toRow } from './row.js';

/** A Parquet file (uncompressed or snappy), read one row group at a time. */
export async function* readParquet(path: string): AsyncGenerator<Row> {
  const { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } = await import('hyparquet');
  let start = 0;
  try {
    const file = await asyncBufferFromFile(path);
    const metadata = await parquetMetadataAsync(file);
    for (const group of metadata.row_groups) {
      const end = start + Number(group.num_rows);
      const rows = await parquetReadObjects({ file, metadata, rowStart: start, rowEnd: end });
      for (const [index, row] of rows.entries()) yield toRow(plain(row), `${path}: row ${start + index + 1}`);
      start = end;
    }
  } catch (cause) {
    if (cause instanceof FormatError) throw cause;
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
