import { InvalidArgumentError } from '../errors.js';
import { cacheWrite } from '../ops/attention.js';
import { tensor, zeros } from '../ops/create.js';
import { add } from '../ops/elementwise.js';
import { embedding } from '../ops/index-ops.js';
import { copyInto, reshape } from '../ops/shape.js';
import { isRecording, keep, scope, unscoped } from '../scope.js';
import type { DType, Tensor } from '../tensor.js';

/** Sizes of a cache: B `rows` at first, with room for `capacity` tokens each, `layers` layers of G key-value heads of width K. */
export interface CacheShape {
  readonly rows: number;
  readonly capacity: number;
  readonly layers: number;
  readonly keyValueHeads: number;
  readonly headWidth: number;
  readonly dtype: DType;
}

/**
 * Keys and values of the tokens seen so far, one pair of tensors [B, capacity, G, K] a layer. Rows fill independently: each pass writes a row's new tokens after
 * its own last one, and padding written beyond is overwritten by what comes next. Owns its tensors.
 */
export class KeyValueCache {
  readonly shape: CacheShape;
  readonly #keys: Tensor[] = [];
  readonly #values: Tensor[] = [];
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

  /** Writes k and v [B, T, G, K] of one layer at the rows' ends and gives back all keys and values of the layer [B, capacity, G, K]. */
  append(layer: number, k: Tensor, v: Tensor): { k: Tensor; v: Tensor } {
    const keys = this.#keys[layer];
    const values = this.#values[layer];
    if (keys === undefined || values === undefined) throw new InvalidArgumentError(`cache: no layer ${layer}; it has ${this.shape.layers}`);
    cacheWrite(keys, k, this.starts);
    cacheWrite(values, v, this.starts);
    return { k: keys, v: values };
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
    const { capacity, keyValueHeads, headWidth } = this.shape;
    scope(() => {
      const places = tensor(BigInt64Array.from(rows, BigInt));
      for (const held of [this.#keys, this.#values]) {
        for (const [layer, before] of held.entries()) {
          const kept = embedding(reshape(before, [this.#lengths.length, capacity * keyValueHeads * headWidth]), places);
          held[layer] = keep(reshape(kept, [rows.length, capacity, keyValueHeads, headWidth]));
          before.dispose();
        }
      }
    });
    this.#lengths = rows.map((row) => this.#lengths[row] ?? 0);
    this.#setStarts();
  }

  dispose(): void {
    for (const tensor of [...this.#keys, ...this.#values]) tensor.dispose();
    this.#starts.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
