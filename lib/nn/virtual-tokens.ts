import { tensor, zeros } from '../ops/create.js';
import { add, cast } from '../ops/elementwise.js';
import { concat } from '../ops/join.js';
import { expand, narrow } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';
import type { ForwardContext, RowAdapters } from './context.js';
import type { InnerPrompts } from './inner-prompts.js';
import { Module } from './module.js';
import { joinPrefixes, type KeyValuePrefix } from './prefix.js';

/** Places in front of the tokens of a row for which there are no ids. */
export interface VirtualTokens {
  /** How many there are, each of which takes a position but inside an encoder. */
  readonly count: number;
  /** Embeddings [count, D] that go through the network in front of those of the tokens. */
  embeddings?(training: boolean): Tensor;
  /** Or keys and values by layer, each [1, count, G, K]. */
  prefixes?(training: boolean): readonly KeyValuePrefix[];
  /** Or embeddings [count, D] inside an encoder; see `InnerPrompts`. */
  readonly prompts?: InnerPrompts;
}

/** Where a network finds its virtual tokens. */
export interface VirtualTokenSource {
  /** Those of each row of a batch, in their order. */
  of(rows: RowAdapters | undefined, batch: number): readonly (readonly VirtualTokens[])[];
  /** All there are, whether they are in use or not. */
  readonly all: readonly VirtualTokens[];
  /** What stands for a tensor [1, ...] of the network itself in a pass: [1, ...], or [B, ...] where its rows have different ones. */
  held?(name: string, value: Tensor, rows: RowAdapters | undefined): Tensor;
}

/** Sizes that adapters of a whole network need. */
export interface TokenShape {
  readonly hiddenSize: number;
  readonly layers: number;
  /** Heads of keys and values; absent: `heads`. */
  readonly keyValueHeads?: number;
  readonly heads?: number;
  /** Width of a head; absent: hidden size by heads. */
  readonly headWidth?: number;
  /** Learnt tokens in front of those of an encoder, and how many of them, from the first one, its head reads; absent: one that is read. */
  readonly tokens?: { readonly special: number; readonly read: number };
}

/** A network over rows of tokens that looks for virtual tokens in front of them. */
export abstract class TokenNetwork extends Module {
  /** Whether it puts embeddings of virtual tokens in front of those of its own; adapters with such are refused where not. */
  readonly takesEmbeddings: boolean = true;
  abstract readonly shape: TokenShape;
  /** Set by adapters of the whole network. */
  virtualTokens?: VirtualTokenSource;

  /**
   * A tensor [1, ...] that the network itself holds, as the adapters of a pass have it: [1, ...], or [B, ...] where its rows have different ones. Networks that read
   * their own tensors in another way cannot have them trained by an adapter.
   */
  protected held(name: keyof this & string, { rows }: ForwardContext): Tensor {
    const own = this[name] as Tensor;
    return this.virtualTokens?.held?.(name, own, rows) ?? own;
  }
}

const countOf = (tokens: readonly VirtualTokens[]): number => tokens.reduce((total, { count }) => total + count, 0);
const embedded = (tokens: readonly VirtualTokens[]): VirtualTokens[] => tokens.filter(({ embeddings }) => embeddings !== undefined);
const areSame = (a: readonly VirtualTokens[], b: readonly VirtualTokens[]): boolean =>
  a.length === b.length && a.every((one, i) => one === b[i]);
const same = (values: readonly number[]): boolean => values.every((value) => value === values[0]);

/** How many positions virtual tokens take in a row with these adapters; default the active ones. */
export function virtualLength({ virtualTokens }: TokenNetwork, adapters?: readonly string[]): number {
  const found = virtualTokens?.of(adapters && [adapters], 1)[0] ?? [];
  return countOf(found.filter(({ prompts }) => prompts === undefined));
}

/** How many tokens of a row fit into the context beside its virtual ones. */
export const tokenRoom = (
  network: TokenNetwork & { readonly shape: { readonly contextLength: number } },
  adapters?: readonly string[],
): number => network.shape.contextLength - virtualLength(network, adapters);

/** How many places of a cache virtual tokens can take in a row: all of those with embeddings. */
export const cachedVirtualLength = ({ virtualTokens }: TokenNetwork): number => countOf(embedded(virtualTokens?.all ?? []));

/** The context of a pass over `batch` rows, with the virtual tokens in front of them where there are any. */
export function withFront(network: TokenNetwork, context: ForwardContext, batch: number): ForwardContext {
  const front = Front.of(network, context, batch);
  return front === undefined ? context : { ...context, front };
}

/** The virtual tokens of one pass. Keys and values come first, in front of embeddings. */
export class Front {
  /** Positions of keys and values in front of each row. */
  readonly prefixes: readonly number[];
  /** Embeddings in front of those of the tokens in this pass, by row. */
  readonly inputs: readonly number[];
  /** The virtual tokens of each row. */
  readonly rows: readonly (readonly VirtualTokens[])[];
  readonly #isFirst: boolean;
  readonly #training: boolean;
  readonly #embeddings = new Map<VirtualTokens, Tensor>();
  readonly #byLayer = new Map<VirtualTokens, readonly KeyValuePrefix[]>();

  private constructor(rows: readonly (readonly VirtualTokens[])[], isFirst: boolean, training: boolean) {
    this.rows = rows;
    this.#isFirst = isFirst;
    this.#training = training;
    this.inputs = rows.map((tokens) => (isFirst ? countOf(embedded(tokens)) : 0));
    this.prefixes = rows.map((tokens) => countOf(tokens.filter(({ prefixes }) => prefixes !== undefined)));
  }

  /** Those of a batch of rows, or undefined where no row has any. A cache with tokens holds them already. */
  static of(network: TokenNetwork, { rows, cache, training }: ForwardContext, batch: number): Front | undefined {
    const found = network.virtualTokens?.of(rows, batch) ?? [];
    return found.some((tokens) => tokens.length > 0) ? new Front(found, cache?.isEmpty ?? true, training) : undefined;
  }

  /** The longest row of `inputs`. */
  get width(): number {
    return Math.max(...this.inputs);
  }

  /** Embeddings [B, T, D] with the virtual ones in front, [B, W + T, D]: each row right behind its own, and zeros behind a row with fewer. */
  join(hidden: Tensor): Tensor {
    const { width } = this;
    const [batch = 0, , size = 0] = hidden.shape;
    if (width === 0) return hidden;
    const first = this.rows[0] ?? [];
    if (this.rows.every((tokens) => areSame(tokens, first)))
      return concat([...this.#inputsOf(first, hidden).map((part) => expand(part, [batch, ...part.shape.slice(1)])), hidden], 1);
    return concat(
      this.rows.map((tokens, row) => {
        const gap = width - (this.inputs[row] ?? 0);
        const behind = gap === 0 ? [] : [zeros([1, gap, size], { dtype: hidden.dtype })];
        return concat([...this.#inputsOf(tokens, hidden), narrow(hidden, 0, row, 1), ...behind], 1);
      }),
      0,
    );
  }

  /** Each [1, count, D], in the dtype of `hidden`. */
  #inputsOf(tokens: readonly VirtualTokens[], hidden: Tensor): Tensor[] {
    return embedded(tokens).map((each) => {
      const made = this.#embeddings.get(each) ?? cast(each.embeddings?.(this.#training) as Tensor, hidden.dtype);
      this.#embeddings.set(each, made);
      return expand(made, [1, ...made.shape]);
    });
  }

  /** Ids i64 [B, T] of something that every token has, with 0 for the virtual ones in front: [B, W + T]. */
  joinIds(ids: Tensor): Tensor {
    const { width, inputs } = this;
    if (width === 0) return ids;
    const nothing = (rows: number, length: number): Tensor => zeros([rows, length], { dtype: ids.dtype });
    if (same(inputs)) return concat([nothing(inputs.length, width), ids], 1);
    return concat(
      inputs.map((length, row) => concat([nothing(1, length), narrow(ids, 0, row, 1), nothing(1, width - length)], 1)),
      0,
    );
  }

  /** Positions i64 [B, W + T] of rows of T tokens that begin at 0. */
  positions(time: number): Tensor {
    const length = this.width + time;
    const values = this.prefixes.flatMap((first) => Array.from({ length }, (_, t) => BigInt(first + t)));
    return tensor(BigInt64Array.from(values), { shape: [this.prefixes.length, length] });
  }

  /** How many places of [B, W + T] each row fills, i64 [B], of those with `keyLengths` tokens; undefined: all. */
  lengths(keyLengths: Tensor | undefined, time: number): Tensor | undefined {
    const { width, inputs } = this;
    if (width === 0 || (keyLengths === undefined && same(inputs))) return keyLengths;
    return add(keyLengths ?? time, tensor(BigInt64Array.from(inputs, BigInt)));
  }

  /** What `join` made longer, without the virtual tokens: [B, W + T, D] to [B, T, D]. */
  withoutVirtual(hidden: Tensor): Tensor {
    const { width, inputs } = this;
    if (width === 0) return hidden;
    const time = (hidden.shape[1] ?? 0) - width;
    if (same(inputs)) return narrow(hidden, 1, width, time);
    return concat(
      inputs.map((length, row) => narrow(narrow(hidden, 0, row, 1), 1, length, time)),
      0,
    );
  }

  /** The context of one layer: keys and values of the virtual tokens stand in front. */
  at(layer: number, context: ForwardContext): ForwardContext {
    if (!this.#isFirst || this.prefixes.every((length) => length === 0)) return context;
    const batch = this.rows.length;
    const first = this.rows[0] ?? [];
    const own = this.rows.every((tokens) => areSame(tokens, first))
      ? this.#prefixesOf(first, layer)
      : [this.rows.map((tokens) => joinPrefixes(this.#prefixesOf(tokens, layer), 1) as KeyValuePrefix | undefined)];
    const prefix = joinPrefixes([context.prefix, ...own], batch);
    return { ...context, ...(prefix && { prefix }) };
  }

  #prefixesOf(tokens: readonly VirtualTokens[], layer: number): KeyValuePrefix[] {
    return tokens.flatMap((each) => {
      if (each.prefixes === undefined) return [];
      const made = this.#byLayer.get(each) ?? each.prefixes(this.#training);
      this.#byLayer.set(each, made);
      return made[layer] ?? [];
    });
  }
}
