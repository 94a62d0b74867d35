import { InvalidArgumentError, ShapeError } from '../errors.js';
import type { KeyValueCache } from '../nn/cache.js';
import type { ForwardContext, RowAdapters, TaskId } from '../nn/context.js';
import type { HiddenStates } from '../nn/hidden-states.js';
import type { TokenPlaces } from '../nn/rope.js';
import { Front } from '../nn/virtual-tokens.js';
import { tensor } from '../ops/create.js';
import { add } from '../ops/elementwise.js';
import { reshape } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';
import type { CausalLanguageModel } from './causal-language-model.js';

/** Token ids by row; rows may differ in length and are padded on the right. */
export type TokenRows = readonly (readonly number[])[];

/** What a forward pass can be told beside the ids. */
export interface ForwardOptions {
  /** Whether dropout and the like are on; default: whether the network is in training mode. */
  readonly training?: boolean;
  /** Which adapters each row uses, by name; default: the active ones. */
  readonly rows?: RowAdapters;
  /** Which task each row is of, for adapters that are routed by task. */
  readonly tasks?: readonly TaskId[];
  /** Document of each token, for packed rows: attention stays inside a document, and positions start again with each. */
  readonly documents?: TokenRows;
  /** Recompute each block in backward instead of keeping what it saved; default false. */
  readonly checkpointing?: boolean;
  /** Earlier tokens of the rows; this pass appends to it and counts its own tokens in. */
  readonly cache?: KeyValueCache;
  /** Gets what every block leaves in the stream. */
  readonly hidden?: HiddenStates;
  /** @internal The ids of the rows in memory that stays, i64 [B, 1], for a pass that is captured. */
  readonly nextIds?: Tensor;
}

/** Rows as one padded tensor, with all that layers need to know about them. */
export interface Batch {
  /** i64 [B, T]. */
  readonly ids: Tensor;
  readonly context: ForwardContext;
  /** Number of places that each row takes: its tokens and those of its virtual tokens that go through the network with them. */
  readonly lengths: readonly number[];
}

/** Rows padded with zeros to `width`, as i64 [B, width]. */
export const paddedIds = (rows: TokenRows, width: number): Tensor => {
  const values = new Float64Array(rows.length * width);
  for (const [b, row] of rows.entries()) values.set(row, b * width);
  return tensor(values, { shape: [rows.length, width], dtype: 'i64' });
};

/** Checks the ids against the model and makes the tensors of a pass. Throws for empty rows, ids outside the vocabulary and rows beyond the context. */
export function makeBatch(network: CausalLanguageModel, rows: TokenRows, options: ForwardOptions = {}): Batch {
  const { cache, documents } = options;
  if (options.rows !== undefined && options.rows.length !== rows.length) {
    throw new ShapeError(
      `forward: "rows" must name the adapters of every row; got ${options.rows.length} entries, expected ${rows.length}`,
    );
  }
  if (options.tasks !== undefined && options.tasks.length !== rows.length)
    throw new ShapeError(`forward: "tasks" must name the task of every row; got ${options.tasks.length} entries, expected ${rows.length}`);
  const training = options.training ?? network.training;
  const own = { ...(options.rows && { rows: options.rows }), ...(options.tasks && { tasks: options.tasks }), ...(cache && { cache }) };
  const front = Front.of(network, { training, ...own }, rows.length);
  checkRows(network, rows, cache, front);
  const lengths = rows.map((row, b) => (front?.inputs[b] ?? 0) + row.length);
  const longest = Math.max(...rows.map((row) => row.length));
  const width = (front?.width ?? 0) + longest;
  const starts = cache?.lengths ?? rows.map(() => 0);
  const ends = starts.map((start, b) => start + (lengths[b] ?? 0));
  const places = documents === undefined ? placesOf(starts, lengths, front?.prefixes) : placesIn(rows, documents, cache, front);
  const ragged = cache !== undefined || lengths.some((length) => length !== width);
  // One token a row stands where its cache ends, which is in memory already.
  const next = cache !== undefined && lengths.every((length) => length === 1);
  const positions = next ? nextPositions(cache, front?.prefixes) : paddedIds(places.positions, width);
  return {
    ids: options.nextIds ?? paddedIds(rows, longest),
    lengths,
    context: {
      training,
      ...own,
      checkpointing: options.checkpointing ?? false,
      ...(options.hidden && { hidden: options.hidden }),
      positions,
      rotary: network.rotary.tables(positions, places, cache?.shape.capacity),
      ...(front === undefined ? {} : { front }),
      ...(ragged ? { keyLengths: next ? add(cache.starts, 1) : tensor(BigInt64Array.from(ends, BigInt), { shape: [rows.length] }) } : {}),
      ...(documents === undefined ? {} : { documents: documentIds(documents, width) }),
    },
  };
}

/** Positions that go on from `starts`, behind a prefix. */
function placesOf(starts: readonly number[], lengths: readonly number[], prefixes: readonly number[] | undefined): TokenPlaces {
  const first = starts.map((start, b) => start + (prefixes?.[b] ?? 0));
  const each = (make: (start: number, length: number) => (value: number, t: number) => number): number[][] =>
    lengths.map((length, b) => new Array<number>(length).fill(0).map(make(first[b] ?? 0, length)));
  return {
    positions: each((start) => (_, t) => start + t),
    spans: each((start, length) => () => start + length),
  };
}

/** Where the token after those of the cache stands, i64 [B, 1]; made without values from JavaScript where all rows have the same prefix. */
function nextPositions(cache: KeyValueCache, prefixes: readonly number[] | undefined): Tensor {
  const [shared = 0] = prefixes ?? [];
  const even = prefixes === undefined || prefixes.every((length) => length === shared);
  const moved = even ? shared : tensor(BigInt64Array.from(prefixes, BigInt));
  return reshape(moved === 0 ? cache.starts : add(cache.starts, moved), [cache.lengths.length, 1]);
}

function checkRows(network: CausalLanguageModel, rows: TokenRows, cache: KeyValueCache | undefined, front: Front | undefined): void {
  const { vocabularySize, contextLength } = network.shape;
  if (rows.length === 0) throw new InvalidArgumentError('forward: the batch is empty; expected at least one row of token ids');
  if (cache !== undefined && cache.lengths.length !== rows.length) {
    throw new ShapeError(`forward: the cache is for another batch; got ${rows.length} rows, expected ${cache.lengths.length}`);
  }
  const last = Math.max(...(cache?.lengths ?? [])) + (front?.width ?? 0) + Math.max(...rows.map((row) => row.length));
  if (cache !== undefined && last > cache.shape.capacity) {
    throw new ShapeError(
      `forward: the cache has no room for the rows, padding included; got ${last} places, expected at most ${cache.shape.capacity}`,
    );
  }
  for (const [b, row] of rows.entries()) {
    if (row.length === 0) throw new InvalidArgumentError(`forward: row ${b} has no tokens; expected at least one`);
    const virtual = (front?.inputs[b] ?? 0) + (front?.prefixes[b] ?? 0);
    const length = (cache?.lengths[b] ?? 0) + virtual + row.length;
    if (length > contextLength) {
      const among = virtual > 0 ? `, ${virtual} of them virtual` : '';
      throw new InvalidArgumentError(
        `forward: row ${b} is longer than the context; got ${length} tokens${among}, expected at most ${contextLength}`,
      );
    }
    const t = row.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabularySize);
    if (t >= 0) {
      throw new InvalidArgumentError(
        `forward: token ${t} of row ${b} is not in the vocabulary; got ${row[t]}, expected an integer from 0 to ${vocabularySize - 1}`,
      );
    }
  }
}

/** Positions that start at 0 with each document of a packed row. */
function placesIn(rows: TokenRows, documents: TokenRows, cache: KeyValueCache | undefined, front: Front | undefined): TokenPlaces {
  if (cache !== undefined) throw new InvalidArgumentError('forward: packed documents and a cache do not go together; give one of them');
  if (front !== undefined)
    throw new InvalidArgumentError('forward: packed documents cannot share virtual tokens; expected rows of one document (packing: false)');
  if (documents.length !== rows.length)
    throw new ShapeError(`forward: "documents" must have a row for each row of ids; got ${documents.length}, expected ${rows.length}`);
  const positions: number[][] = [];
  const spans: number[][] = [];
  for (const [b, row] of rows.entries()) {
    const own = documents[b] ?? [];
    if (own.length !== row.length)
      throw new ShapeError(`forward: row ${b} of "documents" must be as long as the row of ids; got ${own.length}, expected ${row.length}`);
    const starts = row.flatMap((_, t) => (own[t] === own[t - 1] ? [] : [t]));
    const lengths = starts.map((start, i) => (starts[i + 1] ?? row.length) - start);
    positions.push(lengths.flatMap((length) => Array.from({ length }, (_, t) => t)));
    spans.push(lengths.flatMap((length) => new Array<number>(length).fill(length)));
  }
  return { positions, spans };
}

/** i32 [B, T]; padding belongs to no document. */
function documentIds(documents: TokenRows, width: number): Tensor {
  const values = new Int32Array(documents.length * width).fill(-1);
  for (const [b, row] of documents.entries()) values.set(row, b * width);
  return tensor(values, { shape: [documents.length, width] });
}
