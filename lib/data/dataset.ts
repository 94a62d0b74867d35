import { ConfigError, throwIfAborted } from '../errors.js';
import { RowEncoder, type RowPolicy, type SkippedRows } from './bad-rows.js';
import type { Sequence, TextTokenizer } from './encode.js';
import { stateOf } from './files/read-rows.js';
import type { FoundRow } from './files/record-reader.js';
import { languageRows } from './language-rows.js';
import type { EncodedRow, RowEncoding } from './row-encoding.js';
import { type DataSource, sourceName, sourceRows } from './source.js';

/** How far the reading of rows has come. */
export interface DataProgress {
  readonly rows: number;
  /** Of the file, where that is known: bytes read so far, and of the whole. */
  readonly bytes?: number;
  readonly totalBytes?: number;
}

/** What reading rows can be told, whatever they become. */
export interface RowOptions extends RowPolicy {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: DataProgress) => void) | undefined;
}

export interface DatasetOptions extends RowOptions {
  /** Rows are cut to this many tokens. */
  readonly sequence: number;
}

/** Rows that can be asked for by number, from 0, wherever they lie. */
export interface RowSet<R extends EncodedRow = Sequence> {
  readonly length: number;
  /** How the rows are called in messages. */
  readonly name: string;
  /** The sources that the rows come from, in their order. */
  readonly sources: readonly SourceSummary[];
  /** Encoded rows; undefined for a bad row of a streamed file that is left out. */
  rows(indices: readonly number[]): Promise<(R | undefined)[]>;
  /** Tokens of every row, 0 for one that is left out. Reads the whole file where rows are streamed. */
  lengths(options?: Pick<RowOptions, 'signal' | 'onProgress'>): Promise<Uint32Array>;
  /** Tokens of the longest row; undefined where rows are streamed. */
  readonly longest: number | undefined;
  /** Bad rows that were left out so far. */
  readonly skipped: SkippedRows;
  /** Several rows as one, where rows can be packed. */
  join?(rows: readonly R[]): R;
  close(): Promise<void>;
}

/** What is known of a source once it was read. */
export interface SourceSummary {
  readonly name: string;
  readonly rows: number;
  /** Bytes of the file; absent for rows in memory. */
  readonly bytes?: number;
  readonly weight?: number;
}

/** Rows tokenised at the same time. */
export const kEncodedTogether = 64;

/** Encoded rows in memory, in file order. */
export interface Dataset<R extends EncodedRow = Sequence> extends RowSet<R> {
  /** Row `index`, from 0. */
  at(index: number): R;
}

/**
 * Reads and tokenises a whole source.
 *
 * Throws `ConfigError` for a missing or empty source, `FormatError` with file and line for a bad row, `CancelledError` when the signal fires.
 */
export async function loadDataset(source: DataSource, tokenizer: TextTokenizer, options: DatasetOptions): Promise<Dataset> {
  return loadRows(source, languageRows(tokenizer, options.sequence)(source), options);
}

/** The same with rows of any kind. */
export async function loadRows<R extends EncodedRow>(
  source: DataSource,
  encoding: RowEncoding<R>,
  options: RowOptions,
): Promise<Dataset<R>> {
  const { signal, onProgress } = options;
  const encoder = new RowEncoder(encoding, options);
  const loaded: R[] = [];
  const add = async (found: readonly FoundRow[]): Promise<void> => {
    throwIfAborted(signal, 'data');
    for (const row of await encoder.encode(found)) if (row !== undefined) loaded.push(row);
    onProgress?.({ rows: loaded.length });
  };
  let waiting: FoundRow[] = [];
  for await (const row of sourceRows(source)) {
    if (waiting.push(row) < kEncodedTogether) continue;
    await add(waiting);
    waiting = [];
  }
  await add(waiting);
  return memoryDataset(loaded, source, encoding, encoder.skipped);
}

function memoryDataset<R extends EncodedRow>(
  loaded: readonly R[],
  source: DataSource,
  { length, join }: RowEncoding<R>,
  skipped: SkippedRows,
): Dataset<R> {
  const name = sourceName(source);
  if (loaded.length === 0) throw noRows(name, skipped);
  const at = (index: number): R => {
    const found = loaded[index];
    if (found === undefined) throw new RangeError(`data: "${name}" has no row ${index}; got ${loaded.length} rows`);
    return found;
  };
  return {
    length: loaded.length,
    name,
    sources: [summaryOf(source, loaded.length)],
    longest: loaded.reduce((longest, row) => Math.max(longest, length(row)), 0),
    skipped,
    at,
    ...(join && { join }),
    rows: async (indices) => indices.map(at),
    lengths: async () => Uint32Array.from(loaded, length),
    close: async () => undefined,
  };
}

/** What is known of a source of `rows` rows. */
export function summaryOf(source: DataSource, rows: number): SourceSummary {
  const size = source.path === undefined ? undefined : stateOf(source.path)?.size;
  return {
    name: sourceName(source),
    rows,
    ...(size === undefined ? {} : { bytes: size }),
    ...(source.weight === undefined ? {} : { weight: source.weight }),
  };
}

/** The error for a source that is empty, or of which every row was left out. */
export function noRows(name: string, { count, first }: SkippedRows): ConfigError {
  return new ConfigError(`data: "${name}" has no rows${count === 0 ? '' : `; ${count} bad rows were left out: ${first.join('; ')}`}`);
}
