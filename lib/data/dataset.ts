import { ConfigError, FormatError, throwIfAborted } from '../errors.js';
import { targetCount } from './batch.js';
import { encodeExample, type Sequence, type TextTokenizer } from './encode.js';
import { type Example, type ExampleFields, exampleOf } from './example.js';
import { readRows } from './read-rows.js';
import { type Row, toRow } from './row.js';

/** Where rows come from: a file or rows in memory (objects; a string is short for `{ text }`), and which of their fields make an example. */
export type DataSource = ExampleFields &
  (
    | {
        readonly path: string;
        /** `.txt` only: what stands between two rows; default a line end. */
        readonly separator?: string;
        readonly rows?: never;
      }
    | {
        readonly rows: Iterable<Readonly<Record<string, unknown>> | string> | AsyncIterable<Readonly<Record<string, unknown>> | string>;
        readonly path?: never;
        readonly separator?: never;
      }
  );

export interface DatasetOptions {
  /** Rows are cut to this many tokens. */
  readonly sequence: number;
  /** What to do with a row without anything to learn (empty, or its prompt fills the sequence). Default `'error'`; `'keep'` is for evaluation. */
  readonly emptyRows?: 'error' | 'skip' | 'keep';
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { rows: number }) => void) | undefined;
}

/** Rows in order, as examples. Throws as `readRows` and `exampleOf` do. */
export async function* readExamples(source: DataSource): AsyncGenerator<Example> {
  const toExample = exampleOf(source);
  for await (const row of sourceRows(source)) yield toExample(row);
}

async function* sourceRows(source: DataSource): AsyncGenerator<Row> {
  if (source.path !== undefined) {
    yield* readRows(source.path, source.separator === undefined ? {} : { separator: source.separator });
    return;
  }
  let number = 0;
  for await (const value of source.rows) {
    number++;
    yield toRow(typeof value === 'string' ? { text: value } : value, `row ${number}`);
  }
}

/** Rows tokenised at the same time. */
const kEncodedTogether = 64;

/** Encoded rows in file order. */
export interface Dataset {
  readonly length: number;
  /** Row `index`, from 0. */
  at(index: number): Sequence;
  /** How the source is called in messages. */
  readonly name: string;
}

/**
 * Reads and tokenises a whole source.
 *
 * Throws `ConfigError` for a missing or empty source, `FormatError` with file and line for a bad row, `CancelledError` when the signal fires.
 */
export async function loadDataset(source: DataSource, tokenizer: TextTokenizer, options: DatasetOptions): Promise<Dataset> {
  const { sequence, emptyRows = 'error', signal, onProgress } = options;
  const name = source.path ?? 'rows';
  const sequences: Sequence[] = [];
  const add = async (examples: readonly Example[]): Promise<void> => {
    throwIfAborted(signal, 'data');
    const encoded = await Promise.all(examples.map((example) => encodeExample(example, tokenizer, sequence)));
    for (const [index, row] of encoded.entries()) {
      const example = examples[index] as Example;
      if (emptyRows === 'keep' || targetCount(row) > 0) sequences.push(row);
      else if (emptyRows === 'error')
        throw new FormatError(
          `${row.where}: nothing to learn; ${emptyReason(example, row, sequence)}; use \`emptyRows: skip\` to leave such rows out`,
        );
    }
    onProgress?.({ rows: sequences.length });
  };
  let waiting: Example[] = [];
  for await (const example of readExamples(source)) {
    if (waiting.push(example) < kEncodedTogether) continue;
    await add(waiting);
    waiting = [];
  }
  await add(waiting);
  if (sequences.length === 0) throw new ConfigError(`data: "${name}" has no rows`);
  return { length: sequences.length, at: (index) => rowAt(sequences, index, name), name };
}

function rowAt(sequences: readonly Sequence[], index: number, name: string): Sequence {
  const found = sequences[index];
  if (found === undefined) throw new RangeError(`data: "${name}" has no row ${index}; got ${sequences.length} rows`);
  return found;
}

function emptyReason(example: Example, encoded: Sequence, sequence: number): string {
  if (encoded.ids.length < 2) return `got ${encoded.ids.length} token${encoded.ids.length === 1 ? '' : 's'}, expected at least 2`;
  if (example.kind === 'chat' && encoded.ids.length < sequence) return 'the conversation has no assistant turn';
  return `what comes before the ${example.kind === 'chat' ? 'first assistant turn' : 'completion'} fills all ${sequence} tokens of \`sequence\``;
}
