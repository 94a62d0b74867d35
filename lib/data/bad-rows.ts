import { FormatError } from '../errors.js';
import type { FoundRow } from './files/record-reader.js';
import type { EncodedRow, RowEncoding } from './row-encoding.js';

/** What to do with rows that cannot be used. */
export interface RowPolicy {
  /** Rows that cannot be parsed, lack fields, or hold nothing to learn: an error, or left out. Default `'error'`. */
  readonly badRows?: 'error' | 'skip';
  /** Rows that hold nothing to learn: an error, left out, or kept (for evaluation). Default: as `badRows` says. */
  readonly emptyRows?: 'error' | 'skip' | 'keep';
}

/** Rows that were left out. */
export interface SkippedRows {
  readonly count: number;
  /** What was wrong with the first of them. */
  readonly first: readonly string[];
}

class BadRow {
  readonly error: FormatError;
  readonly policy: 'error' | 'skip';

  constructor(error: FormatError, policy: 'error' | 'skip') {
    this.error = error;
    this.policy = policy;
  }
}

/** How many skipped rows are told by name. */
const kNamed = 3;

/** Encodes rows, and keeps count of those that are left out. */
export class RowEncoder<R extends EncodedRow> {
  readonly #encoding: RowEncoding<R>;
  readonly #badRows: 'error' | 'skip';
  readonly #emptyRows: 'error' | 'skip' | 'keep';
  readonly #seen = new Set<string>();
  readonly #first: string[] = [];

  constructor(encoding: RowEncoding<R>, policy: RowPolicy) {
    this.#encoding = encoding;
    this.#badRows = policy.badRows ?? 'error';
    this.#emptyRows = policy.emptyRows ?? this.#badRows;
  }

  get skipped(): SkippedRows {
    return { count: this.#seen.size, first: this.#first };
  }

  /** The rows encoded, in their order; undefined for a row that is left out. Throws the `FormatError` of the first row that must not be. */
  async encode(rows: readonly FoundRow[]): Promise<(R | undefined)[]> {
    const results = await Promise.all(rows.map((row) => this.#encode(row)));
    return results.map((result, index) => {
      if (!(result instanceof BadRow)) return result;
      if (result.policy === 'error') throw result.error;
      this.#skip((rows[index] as FoundRow).where, result.error.message);
      return undefined;
    });
  }

  async #encode(row: FoundRow): Promise<R | BadRow> {
    try {
      const { row: encoded, empty } = await this.#encoding.encode(row.parse());
      if (this.#emptyRows === 'keep' || empty === undefined) return encoded;
      const advice = this.#emptyRows === 'error' ? '; use `emptyRows: skip` to leave such rows out' : '';
      return new BadRow(new FormatError(`${row.where}: nothing to learn; ${empty}${advice}`), this.#emptyRows);
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      return new BadRow(error, this.#badRows);
    }
  }

  /** A row that is met again in a later epoch counts once. */
  #skip(where: string, problem: string): void {
    if (!this.#seen.has(where) && this.#first.length < kNamed) this.#first.push(problem);
    this.#seen.add(where);
  }
}

/** What a run says about rows that were left out. */
export function skippedMessage(name: string, { count, first }: SkippedRows): string {
  const more = count > first.length ? ` and ${count - first.length} more` : '';
  return `data: left out ${count} bad row${count === 1 ? '' : 's'} of "${name}": ${first.join('; ')}${more}`;
}
