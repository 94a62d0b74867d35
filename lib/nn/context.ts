import type { Tensor } from '../tensor.js';
import type { KeyValueCache } from './cache.js';
import type { HiddenStates } from './hidden-states.js';
import type { AttentionPrefix } from './prefix.js';
import type { RotaryTables } from './rope.js';
import type { SublayerHook } from './sublayer.js';
import type { Front } from './virtual-tokens.js';

/** The adapters each batch row uses, by name, one entry a row; an empty entry is the bare base model. */
export type RowAdapters = readonly (readonly string[])[];

/** The task of a row by its number in the training, or `'mean'`: the average over what the tasks share. */
export type TaskId = number | 'mean';

/**
 * What a forward pass hands to every layer beside its input. B batch rows, T positions. Layers pass it on unchanged; small networks of one's own need only
 * `training`, or leave it out.
 */
export interface ForwardContext {
  /** Whether dropout and the like are on. */
  readonly training: boolean;
  /** Which adapters each row uses; absent: the active ones, for every row. */
  readonly rows?: RowAdapters;
  /** Which task each row is of, for adapters that are routed by task; others take no notice. */
  readonly tasks?: readonly TaskId[];
  /** Recompute each block in backward instead of keeping what it saved. */
  readonly checkpointing?: boolean;
  /** Position of every token, i64 [B, T]. */
  readonly positions?: Tensor;
  /** Rotary tables for `positions`. */
  readonly rotary?: RotaryTables;
  /** Number of keys of each row that hold tokens, i64 [B]; absent: all. Rows are padded on the right. */
  readonly keyLengths?: Tensor;
  /** Document of every token, i32 [B, T], for packed sequences: attention stays within a document. */
  readonly documents?: Tensor;
  /** Keys and values of earlier tokens; the pass appends to it. */
  readonly cache?: KeyValueCache;
  /** Virtual tokens in front of the rows of this pass. */
  readonly front?: Front;
  /** Keys and values in front of those of the tokens, for the attention of the layer that gets this context. A cache that holds tokens holds them already. */
  readonly prefix?: AttentionPrefix;
  /** Gets what every block of this pass leaves in the stream. */
  readonly hidden?: HiddenStates;
  /** Goes around the sub-layers of the block that gets this context; see `sublayer`. */
  readonly sublayers?: SublayerHook;
}

/** The context of a plain forward pass. */
export const inference: ForwardContext = { training: false };
