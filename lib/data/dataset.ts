import { ConfigError, throwIfAborted } from '../errors.js';
import { RowEncoder, type RowPolicy, type SkippedRows } from './bad-rows.js';
import type { Sequence, TextTokenizer } from './encode.js';
import { exampleOf } from './example.js';
import { stateOf } from './files/read-rows.js';
import type { FoundRow } from './files/record-reader.js';
import { type DataSource, sourceName, sourceRows } from './source.js';

/** How far the reading of rows has come. */
export interface DataProgress {
  readonly rows: number;
  /** Of the file, where that is known: bytes read so far, and of the whole. */
  readonly bytes?: number;
  readonly totalBytes?: number;
}

export interface DatasetOptions extends RowPolicy {
  /** Rows are cut to this many tokens. */
  readonly sequence: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: DataProgress) => void) | undefined;
}

/** Rows that can be asked for by number, from 0, wherever they lie. */
export interface RowSet {
  readonly length: number;
  /** How the rows are called in messages. */
  readonly name: string;
  /** The sources that the rows come from, in their order. */
  readonly sources: readonly SourceSummary[];
  /** Encoded rows; undefined for a bad row of a streamed file that is left out. */
  rows(indices: readonly number[]): Promise<(Sequence | undefined)[]>;
  /** Tokens of every row, 0 for one that is left out. Reads the whole file where rows are streamed. */
  lengths(options?: Pick<DatasetOptions, 'signal' | 'onProgress'>): Promise<Uint32Array>;
  /** Tokens of the longest row; undefined where rows are streamed. */
  readonly longest: number | undefined;
  /** Bad rows that were left out so far. */
  readonly skipped: SkippedRows;
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
export interface Dataset extends RowSet {
  /** Row `index`, from 0. */
  at(index: number): Sequence;
}

/**
 * Reads and tokenises a whole source.
 *
 * Throws `ConfigError` for a missing or empty source, `FormatError` with file and line for a bad row, `CancelledError` when the signal fires.
 */
export async function loadDataset(source: DataSource, tokenizer: TextTokenizer, options: DatasetOptions): Promise<Dataset> {
  const { signal, onProgress } = options;
  const encoder = new RowEncoder(exampleOf(source), tokenizer, options.sequence, options);
  const sequences: Sequence[] = [];
  const add = async (found: readonly FoundRow[]): Promise<void> => {
    throwIfAborted(signal, 'data');
    for (const row of await encoder.encode(found)) if (row !== undefined) sequences.push(row);
    onProgress?.({ rows: sequences.length });
  };
  let waiting: FoundRow[] = [];
  for await (const row of sourceRows(source)) {
    if (waiting.push(row) < kEncodedTogether) continue;
    await add(waiting);
    waiting = [];
  }
  await add(waiting);
  return memoryDataset(sequences, source, encoder.skipped);
}

function memoryDataset(sequences: readonly Sequence[], source: DataSource, skipped: SkippedRows): Dataset {
  const name = sourceName(source);
  if (sequences.length === 0) throw noRows(name, skipped);
  const at = (index: number): Sequence => {
    const found = sequences[index];
    if (found === undefined) throw new RangeError(`data: "${name}" has no row ${index}; got ${sequences.length} rows`);
    return found;
  };
  return {
    length: sequences.length,
    name,
    sources: [summaryOf(source, sequences.length)],
    longest: sequences.reduce((longest, { ids }) => Math.max(longest, ids.length), 0),
    skipped,
    at,
    rows: async (indices) => indices.map(at),
    lengths: async () => Uint32Array.from(sequences, ({ ids }) => ids.length),
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
