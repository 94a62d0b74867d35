import { type DatasetOptions, loadRows, type RowOptions, type RowSet } from './dataset.js';
import type { TextTokenizer } from './encode.js';
import { stateOf } from './files/read-rows.js';
import { languageRows } from './language-rows.js';
import type { EncodedRow, EncodingOf } from './row-encoding.js';
import { type DataSource, type DataSources, sourceList } from './source.js';
import { openStreamedRows } from './streamed-dataset.js';

/** Files over this many bytes are streamed where nothing is said. */
export const kStreamedBytes = 256 * 1024 * 1024;

/**
 * The rows of one source or several, those of the first source first. A source is streamed where it says `streaming: true` or is a file over 256 MiB, else read into
 * memory; the rows are the same either way. `close()` it.
 *
 * Throws as `loadDataset` and `openStreamedDataset` do.
 *
 * @example
 * const rows = await openDataset([{ path: 'chat.jsonl', messages: 'messages' }, { path: 'notes.txt' }], model.tokenizer, { sequence: 512 });
 * const [first] = await rows.rows([0]);
 */
export function openDataset(sources: DataSources, tokenizer: TextTokenizer, options: DatasetOptions): Promise<RowSet> {
  return openRows(sources, languageRows(tokenizer, options.sequence), options);
}

/** The same with rows of any kind. */
export async function openRows<R extends EncodedRow>(
  sources: DataSources,
  encodingOf: EncodingOf<R>,
  options: RowOptions,
): Promise<RowSet<R>> {
  const sets: RowSet<R>[] = [];
  try {
    let before = 0;
    for (const source of sourceList(sources)) {
      const onProgress = options.onProgress;
      const shifted = onProgress && {
        onProgress: (progress: { rows: number }) => onProgress({ ...progress, rows: before + progress.rows }),
      };
      sets.push(await openOne(source, encodingOf, { ...options, ...shifted }));
      before += sets.at(-1)?.length ?? 0;
    }
  } catch (error) {
    await Promise.all(sets.map((set) => set.close()));
    throw error;
  }
  return sets.length === 1 ? (sets[0] as RowSet<R>) : joined(sets);
}

async function openOne<R extends EncodedRow>(source: DataSource, encodingOf: EncodingOf<R>, options: RowOptions): Promise<RowSet<R>> {
  const encoding = encodingOf(source);
  return isStreamed(source) ? openStreamedRows(source, encoding, options) : loadRows(source, encoding, options);
}

function isStreamed(source: DataSource): source is DataSource & { readonly path: string } {
  if (source.path === undefined) return false;
  return source.streaming ?? ((stateOf(source.path)?.size ?? 0) > kStreamedBytes && !/\.json$/i.test(source.path));
}

/** Sets one after the other as one. */
function joined<R extends EncodedRow>(sets: readonly RowSet<R>[]): RowSet<R> {
  const starts: number[] = [];
  const join = sets[0]?.join;
  let length = 0;
  for (const set of sets) {
    starts.push(length);
    length += set.length;
  }
  return {
    length,
    name: sets.map(({ name }) => name).join(', '),
    sources: sets.flatMap(({ sources }) => sources),
    longest: sets.some(({ longest }) => longest === undefined) ? undefined : Math.max(...sets.map(({ longest = 0 }) => longest)),
    get skipped() {
      const parts = sets.map(({ skipped }) => skipped);
      return { count: parts.reduce((sum, { count }) => sum + count, 0), first: parts.flatMap(({ first }) => first).slice(0, 3) };
    },
    ...(join && { join }),
    async rows(indices) {
      const found = new Array<R | undefined>(indices.length);
      await Promise.all(
        sets.map(async (set, number) => {
          const start = starts[number] ?? 0;
          const own = [...indices.keys()].filter((place) => (indices[place] ?? 0) >= start && (indices[place] ?? 0) < start + set.length);
          if (own.length === 0) return;
          const rows = await set.rows(own.map((place) => (indices[place] ?? 0) - start));
          for (const [i, place] of own.entries()) found[place] = rows[i];
        }),
      );
      return found;
    },
    async lengths(options) {
      const all = new Uint32Array(length);
      for (const [number, set] of sets.entries()) all.set(await set.lengths(options), starts[number]);
      return all;
    },
    close: async () => {
      await Promise.all(sets.map((set) => set.close()));
    },
  };
}
