import type { TaskId } from '../nn/context.js';
import type { Row } from './row.js';
import type { DataSource } from './source.js';

/** A row as a model trains on it. */
export interface EncodedRow {
  /** Where it is from, such as `notes.jsonl:17`. */
  readonly where: string;
  /** The task of the row, where its source says. */
  readonly task?: TaskId;
}

/** What became of a row. */
export interface Encoded<R extends EncodedRow> {
  readonly row: R;
  /** Why nothing can be learnt from it; absent where something can. */
  readonly empty?: string;
}

/** How the rows of one source become those that a model trains on. */
export interface RowEncoding<R extends EncodedRow> {
  /** Throws `FormatError` naming the row where it cannot be used. */
  encode(row: Row): Promise<Encoded<R>>;
  /** Tokens of a row: what rows are grouped and packed by. */
  length(row: R): number;
  /** Several rows as one, where rows can be packed. */
  join?(rows: readonly R[]): R;
}

/** The encoding of each source. Throws `ConfigError` for fields of a source that contradict each other. */
export type EncodingOf<R extends EncodedRow> = (source: DataSource) => RowEncoding<R>;
