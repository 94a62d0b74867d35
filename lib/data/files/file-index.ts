import { throwIfAborted } from '../../errors.js';
import type { DataProgress } from '../dataset.js';
import { type RecordReader, readRecordBlocks } from './record-reader.js';

/** Where each row of a file begins: 8 bytes a row. */
export class FileIndex {
  readonly #offsets: Float64Array;
  /** Rows whose line does not follow on the line of the row before: blank lines, line ends inside of rows. */
  readonly #jumps: readonly { readonly row: number; readonly line: number }[];
  /** Bytes of the file. */
  readonly size: number;

  private constructor(offsets: Float64Array, jumps: readonly { row: number; line: number }[], size: number) {
    this.#offsets = offsets;
    this.#jumps = jumps;
    this.size = size;
  }

  /** Reads a file of `size` bytes once. Throws `CancelledError` when the signal fires. */
  static async build(
    path: string,
    reader: RecordReader,
    size: number,
    options: { readonly signal?: AbortSignal | undefined; readonly onProgress?: ((progress: DataProgress) => void) | undefined },
  ): Promise<FileIndex> {
    let offsets = new Float64Array(1024);
    let rows = 0;
    let line = 0;
    const jumps: { row: number; line: number }[] = [];
    for await (const records of readRecordBlocks(path, reader, options.signal)) {
      for (const record of records) {
        if (rows === offsets.length) offsets = grown(offsets);
        offsets[rows] = record.offset;
        if (record.line !== line + 1) jumps.push({ row: rows, line: record.line });
        line = record.line;
        rows++;
      }
      const last = records.at(-1);
      if (last !== undefined) options.onProgress?.({ rows, bytes: last.offset, totalBytes: size });
    }
    throwIfAborted(options.signal, 'data');
    return new FileIndex(offsets.slice(0, rows), jumps, size);
  }

  get length(): number {
    return this.#offsets.length;
  }

  /** The bytes that hold row `row` and nothing of the next, and the number of its first line. */
  place(row: number): { readonly start: number; readonly end: number; readonly line: number } {
    const start = this.#offsets[row] as number;
    return { start, end: this.#offsets[row + 1] ?? this.size, line: this.#line(row) };
  }

  #line(row: number): number {
    let low = 0;
    let high = this.#jumps.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#jumps[middle]?.row ?? 0) <= row) low = middle + 1;
      else high = middle;
    }
    const jump = this.#jumps[low - 1];
    return jump === undefined ? row + 1 : jump.line + row - jump.row;
  }
}

function grown(values: Float64Array): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(values.length * 2);
  larger.set(values);
  return larger;
}
