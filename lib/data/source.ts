import { ConfigError, FormatError } from '../errors.js';
import { type Example, type ExampleFields, exampleOf } from './example.js';
import { findRows } from './files/read-rows.js';
import type { FoundRow } from './files/record-reader.js';
import { describeInput, toRow } from './row.js';
import { kTaskFields, type TaskFields } from './task-fields.js';

/** What every source can say beside where its rows are. */
export interface SourceOptions extends ExampleFields, TaskFields {
  /** In a list of sources: its part of the training rows is this number divided by the sum of all. Default: its number of rows. */
  readonly weight?: number;
}

/** Where rows come from: a file or rows in memory (objects; a string is short for `{ text }`), and which of their fields make an example. */
export type DataSource = SourceOptions &
  (
    | {
        readonly path: string;
        /** `.txt` only: what stands between two rows; default a line end. */
        readonly separator?: string;
        /** Read rows from the file when they are needed in place of holding all of them in memory. Default: for files over 256 MiB. */
        readonly streaming?: boolean;
        readonly rows?: never;
      }
    | {
        readonly rows: Iterable<Readonly<Record<string, unknown>> | string> | AsyncIterable<Readonly<Record<string, unknown>> | string>;
        readonly path?: never;
        readonly separator?: never;
        readonly streaming?: never;
      }
  );

/** One source, or several whose rows are mixed. */
export type DataSources = DataSource | readonly DataSource[];

/** Keys of a source that name fields of its rows, or hold templates of them. */
const kNames = ['field', 'messages', 'tools', 'prompt', 'completion', ...kTaskFields] as const satisfies readonly (keyof DataSource)[];

/** Throws `ConfigError` for what does not say where rows are, and for names of fields that are none. */
function checkSource(source: DataSource): void {
  const { path, rows } = (source ?? {}) as { readonly path?: unknown; readonly rows?: unknown };
  const isIterable = typeof rows === 'object' && rows !== null && (Symbol.iterator in rows || Symbol.asyncIterator in rows);
  if (typeof path !== 'string' && !isIterable)
    throw new ConfigError(
      `data: a source does not say where its rows are; got ${describeInput(source)}, expected { path } or { rows: [...] }`,
    );
  const wrong = kNames.find((name) => source[name] !== undefined && typeof source[name] !== 'string');
  if (wrong !== undefined) throw new ConfigError(`data: "${wrong}" must be a name; got ${describeInput(source[wrong])}, expected a text`);
}

/**
 * The sources as a list. Throws `ConfigError` for an empty list, for what is no source, and for weights that are not above 0 or given to some sources only.
 */
export function sourceList(sources: DataSources): readonly DataSource[] {
  const list = Array.isArray(sources) ? (sources as readonly DataSource[]) : [sources as DataSource];
  if (list.length === 0) throw new ConfigError('data: the list of sources is empty; expected at least one');
  for (const source of list) checkSource(source);
  const weights = list.map(({ weight }) => weight).filter((weight) => weight !== undefined);
  for (const weight of weights)
    if (!(weight > 0 && Number.isFinite(weight))) throw new ConfigError(`data: "weight" must be a number above 0; got ${weight}`);
  if (weights.length > 0 && weights.length < list.length)
    throw new ConfigError(`data: "weight" must be given to all sources or to none; got it for ${weights.length} of ${list.length}`);
  return list;
}

/** How a source is called in messages. */
export const sourceName = (source: DataSource): string => source.path ?? 'rows';

/** The source with rows that can be read more than once. */
export async function repeatable(source: DataSource): Promise<DataSource> {
  if (source.rows === undefined || Array.isArray(source.rows)) return source;
  const rows: (string | Readonly<Record<string, unknown>>)[] = [];
  for await (const row of source.rows) rows.push(row);
  return { ...source, rows };
}

/** Rows in order, before they are parsed. Throws as `readRows` does. */
export async function* sourceRows(source: DataSource): AsyncGenerator<FoundRow> {
  if (source.path !== undefined) {
    yield* findRows(source.path, source.separator === undefined ? {} : { separator: source.separator });
    return;
  }
  let number = 0;
  for await (const value of source.rows) {
    const where = `row ${++number}`;
    yield { where, parse: () => toRow(typeof value === 'string' ? { text: value } : value, where) };
  }
}

/** Rows in order, as examples; with `badRows: 'skip'` those that can be parsed. Throws as `readRows` and `exampleOf` do. */
export async function* readExamples(
  source: DataSource,
  { badRows = 'error' }: { badRows?: 'error' | 'skip' } = {},
): AsyncGenerator<Example> {
  const toExample = exampleOf(source);
  for await (const row of sourceRows(source)) {
    let example: Example;
    try {
      example = toExample(row.parse());
    } catch (error) {
      if (badRows === 'skip' && error instanceof FormatError) continue;
      throw error;
    }
    yield example;
  }
}
