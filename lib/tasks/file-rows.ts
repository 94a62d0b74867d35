import type { DatasetOptions, RowSet } from '../data/dataset.js';
import type { FrontEnd, Values } from '../data/front-end.js';
import { ConfigError, FormatError, InvalidArgumentError } from '../errors.js';
import type { TaskModel } from '../task-model.js';
import type { EncoderRow } from './encoder-rows.js';

/** An image or recording that lies in a file. */
export interface FileInput {
  readonly file: string;
}

/** Values of files are kept up to this many bytes. */
const kKeptBytes = 256 * 1024 * 1024;
const kNamed = 3;

/** Files as a front end reads them; what was read last is kept. A file that is asked for while it is read is read once. */
class FileReader {
  readonly #processor: FrontEnd;
  readonly #signal: AbortSignal | undefined;
  readonly #reading = new Map<string, Promise<Values>>();
  readonly #kept = new Map<string, Values>();
  #bytes = 0;

  constructor(processor: FrontEnd, signal: AbortSignal | undefined) {
    this.#processor = processor;
    this.#signal = signal;
  }

  async read(file: string): Promise<Values> {
    const kept = this.#kept.get(file);
    if (kept === undefined) return this.#reading.get(file) ?? this.#readAndKeep(file);
    // Put last, so that what is used often stays.
    this.#kept.delete(file);
    this.#kept.set(file, kept);
    return kept;
  }

  #readAndKeep(file: string): Promise<Values> {
    const reading = this.#processor
      .read(file, this.#signal)
      .then((found) => {
        this.#keep(file, found);
        return found;
      })
      .finally(() => this.#reading.delete(file));
    this.#reading.set(file, reading);
    return reading;
  }

  #keep(file: string, found: Values): void {
    this.#kept.set(file, found);
    this.#bytes += found.values.byteLength;
    for (const [oldest, { values }] of this.#kept) {
      if (this.#bytes <= kKeptBytes || this.#kept.size === 1) break;
      this.#kept.delete(oldest);
      this.#bytes -= values.byteLength;
    }
  }
}

/**
 * Rows whose files are read when they are asked for. A file that cannot be read is an error that names the row, or left out as `badRows` says. Throws `ConfigError`
 * when the model has no front end and a row names a file.
 */
export function rowsWithFiles<Target>(
  set: RowSet<EncoderRow<Target>>,
  { processor, source, network }: TaskModel,
  { badRows = 'error', signal }: DatasetOptions,
): RowSet<EncoderRow<Target>> {
  const reader = processor && new FileReader(processor, signal);
  const bad = new Map<string, string>();
  const resolved = async (row: EncoderRow<Target>): Promise<EncoderRow<Target> | undefined> => {
    if (!('file' in row.input)) return row;
    if (reader === undefined)
      throw new ConfigError(`data: no front end for ${network.modality} came with ${source}; give the values of rows as { values, shape }`);
    try {
      return { ...row, input: await reader.read(row.input.file) };
    } catch (error) {
      // A file that is not there is as wrong as one that cannot be read.
      if (!(error instanceof FormatError || error instanceof InvalidArgumentError)) throw error;
      if (badRows === 'error') throw new FormatError(`${row.where}: ${error.message}`, { cause: error });
      bad.set(row.where, `${row.where}: ${error.message}`);
      return undefined;
    }
  };
  return {
    ...set,
    get skipped() {
      const { count, first } = set.skipped;
      return { count: count + bad.size, first: [...first, ...bad.values()].slice(0, kNamed) };
    },
    rows: async (indices) => Promise.all((await set.rows(indices)).map((row) => row && resolved(row))),
  };
}
