import { InvalidArgumentError } from '../errors.js';
import { cacheWrite } from '../ops/attention.js';
import { tensor, zeros } from '../ops/create.js';
import { add } from '../ops/elementwise.js';
import { embedding, indexSelect } from '../ops/index-ops.js';
import { copyInto, narrow, reshape } from '../ops/shape.js';
import { isRecording, keep, noGrad, scope, unscoped } from '../scope.js';
import type { DType, Tensor } from '../tensor.js';
import { type AttentionPrefix, withPrefix } from './prefix.js';

/** Sizes of a cache: B `rows` at first, with room for `capacity` tokens each, `layers` layers of G key-value heads of width K. */
export interface CacheShape {
  readonly rows: number;
  readonly capacity: number;
  readonly layers: number;
  readonly keyValueHeads: number;
  readonly headWidth: number;
  readonly dtype: DType;
}

/** All keys and values of a layer, and where a pass writes into them. */
export interface CachedLayer {
  readonly k: Tensor;
  readonly v: Tensor;
  /** Place of the pass's first token in each row, i64 [B]. */
  readonly starts: Tensor;
  /** How many keys in front of the tokens are a prefix, i64 [B]; absent where the layer has none. */
  readonly front?: Tensor;
}

/**
 * Keys and values of the tokens seen so far, one pair of tensors [B, P + capacity, G, K] a layer, with room for P keys of a prefix. Rows fill independently: each
 * pass writes a row's new tokens after its own last one, and padding written beyond is overwritten by what comes next. Owns its tensors.
 */
export class KeyValueCache {
  readonly shape: CacheShape;
  readonly #keys: Tensor[] = [];
  readonly #values: Tensor[] = [];
  /** i64 [B] of the layers with a prefix. */
  readonly #fronts = new Map<number, Tensor>();
  #lengths: number[];
  #starts: Tensor;

  constructor(shape: CacheShape) {
    this.shape = shape;
    this.#lengths = new Array<number>(shape.rows).fill(0);
    const sizes = [shape.rows, shape.capacity, shape.keyValueHeads, shape.headWidth];
    this.#starts = unscoped(() => zeros([shape.rows], { dtype: 'i64' }));
    unscoped(() => {
      for (let i = 0; i < shape.layers; i++) {
        this.#keys.push(zeros(sizes, { dtype: shape.dtype }));
        this.#values.push(zeros(sizes, { dtype: shape.dtype }));
      }
    });
  }

  /** Number of tokens in each row. */
  get lengths(): readonly number[] {
    return this.#lengths;
  }

  /** The same as a tensor, i64 [B]: where a pass begins to write. */
  get starts(): Tensor {
    return this.#starts;
  }

  /** Whether no row has a token. */
  get isEmpty(): boolean {
    return this.#lengths.every((length) => length === 0);
  }

  /**
   * Writes k and v [B, T, G, K] of one layer at the rows' ends and gives back all keys and values of the layer [B, P + capacity, G, K]. The pass that brings the
   * first tokens may bring a prefix, which stays in front of them; later ones find it there.
   */
  append(layer: number, k: Tensor, v: Tensor, prefix?: AttentionPrefix): CachedLayer {
    if (prefix !== undefined && this.isEmpty) this.#lead(layer, prefix);
    const keys = this.#keys[layer];
    const values = this.#values[layer];
    if (keys === undefined || values === undefined) throw new InvalidArgumentError(`cache: no layer ${layer}; it has ${this.shape.layers}`);
    const front = this.#fronts.get(layer);
    const starts = front === undefined ? this.starts : add(this.starts, front);
    cacheWrite(keys, k, starts);
    cacheWrite(values, v, starts);
    return { k: keys, v: values, starts, ...(front === undefined ? {} : { front }) };
  }

  /** Puts a prefix in front of what the rows of a layer will hold. */
  #lead(layer: number, prefix: AttentionPrefix): void {
    const { rows, capacity, keyValueHeads, headWidth, dtype } = this.shape;
    const nothing = (): Tensor => zeros([rows, capacity, keyValueHeads, headWidth], { dtype });
    const [keys, values, front] = scope(() =>
      noGrad(() => {
        const { k, v, lengths } = withPrefix(prefix, nothing(), nothing());
        const each = typeof lengths === 'number' ? new Array<number>(rows).fill(lengths) : lengths;
        return [keep(k), keep(v), keep(tensor(BigInt64Array.from(each, BigInt)))] as const;
      }),
    );
    for (const before of [this.#keys[layer], this.#values[layer], this.#fronts.get(layer)]) before?.dispose();
    this.#keys[layer] = keys;
    this.#values[layer] = values;
    this.#fronts.set(layer, front);
  }

  /** Counts `tokens[b]` new tokens in row b; call it once after each pass. Throws when a row outgrows the capacity. */
  advance(tokens: readonly number[]): void {
    this.count(tokens);
    if (!isRecording() && tokens.every((count) => count === 1)) scope(() => copyInto(this.#starts, add(this.#starts, 1)));
    else this.#setStarts();
  }

  /** The same for a pass that moves `starts` itself: one that is launched from a capture of `advance`. */
  count(tokens: readonly number[]): void {
    const lengths = this.#lengths.map((length, row) => length + (tokens[row] ?? 0));
    const longest = Math.max(...lengths);
    if (longest > this.shape.capacity)
      throw new InvalidArgumentError(`cache: too many tokens; got ${longest}, room for ${this.shape.capacity}`);
    this.#lengths = lengths;
  }

  #setStarts(): void {
    this.#starts.dispose();
    this.#starts = unscoped(() => tensor(BigInt64Array.from(this.#lengths, BigInt), { shape: [this.#lengths.length] }));
  }

  /** Goes on with these rows only, in this order. */
  keepRows(rows: readonly number[]): void {
    const { keyValueHeads, headWidth } = this.shape;
    scope(() => {
      const places = tensor(BigInt64Array.from(rows, BigInt));
      for (const held of [this.#keys, this.#values]) {
        for (const [layer, before] of held.entries()) {
          const capacity = before.shape[1] ?? 0;
          const kept = embedding(reshape(before, [this.#lengths.length, capacity * keyValueHeads * headWidth]), places);
          held[layer] = keep(reshape(kept, [rows.length, capacity, keyValueHeads, headWidth]));
          before.dispose();
        }
      }
      for (const [layer, before] of this.#fronts) {
        this.#fronts.set(layer, keep(indexSelect(before, 0, places)));
        before.dispose();
      }
    });
    this.#lengths = rows.map((row) => this.#lengths[row] ?? 0);
    this.#setStarts();
  }

  /**
   * Gives row b what row `rows[b]` holds, of the same length, in place: what was captured over the cache can be launched on. Throws `InvalidArgumentError` for another
   * number of rows or other lengths.
   */
  exchangeRows(rows: readonly number[]): void {
    const moved = rows.map((row) => this.#lengths[row]);
    if (rows.length !== this.#lengths.length || moved.some((length, row) => length !== this.#lengths[row]))
      throw new InvalidArgumentError(`cache: rows of other lengths cannot change places; got lengths ${moved}, expected ${this.#lengths}`);
    const { capacity, keyValueHeads, headWidth } = this.shape;
    scope(() => {
      const places = tensor(BigInt64Array.from(rows, BigInt));
      for (const held of [...this.#keys, ...this.#values]) {
        const used = (held.shape[1] ?? 0) - capacity + Math.max(...this.#lengths);
        const moved = embedding(reshape(narrow(held, 1, 0, used), [rows.length, used * keyValueHeads * headWidth]), places);
        cacheWrite(held, reshape(moved, [rows.length, used, keyValueHeads, headWidth]), 0);
      }
      for (const front of this.#fronts.values()) copyInto(front, indexSelect(front, 0, places));
    });
  }

  dispose(): void {
    for (const tensor of [...this.#keys, ...this.#values, ...this.#fronts.values()]) tensor.dispose();
    this.#starts.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
