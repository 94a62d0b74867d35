import type { DatasetOptions, RowSet } from '../data/dataset.js';
import type { EncodedRow } from '../data/row-encoding.js';
import type { DataSources } from '../data/source.js';
import type { EncoderRows } from '../models/encoder-batch.js';
import type { HiddenStates } from '../nn/hidden-states.js';
import type { Tensor } from '../tensor.js';

/** What a forward pass of training can be told. */
export interface LossPass {
  readonly training: boolean;
  /** Recompute each block in backward instead of keeping what it saved. */
  readonly checkpointing?: boolean;
  /** Gets what every block leaves in the stream; of passes that give `outputs`. */
  readonly hidden?: HiddenStates;
}

/** What a model answers to a batch that chooses among classes. */
export interface TaskOutputs {
  /** The sum of the losses of all targets. */
  readonly loss: Tensor;
  /** Of every target that counts, [targets, L]. */
  readonly logits: Tensor;
}

/** Rows of one forward pass, ready for the model. */
export interface TaskBatch {
  /** Targets that count in the loss. */
  readonly targets: number;
  /** Tokens of the rows, padding not counted. */
  readonly tokens: number;
  /** The sum of the losses of all targets: a number on the tape. */
  loss(pass: LossPass): Tensor;
  /** The same loss with the logits behind it, of tasks whose targets are classes. */
  outputs?(pass: LossPass): TaskOutputs;
}

/** Where the rows of a batch stand in a run; random masks are a function of it alone. */
export interface BatchPlace {
  readonly seed: number;
  /** Counted from 1; 0 outside of training. */
  readonly step: number;
  /** Place of the first row among all rows of the step, or of the row set. */
  readonly first: number;
}

/** How well a model does on held-out rows. */
export interface Measured {
  /** Mean loss over all targets. */
  readonly loss: number;
  /** By name, such as `accuracy`. */
  readonly metrics: Readonly<Record<string, number>>;
  /** Targets that the mean is taken over. */
  readonly targets: number;
  readonly rows: number;
}

/** The held-out number that decides which state is the best: `loss`, or one of the metrics. */
export interface DecidingMeasure {
  readonly name: string;
  /** Whether more is better. */
  readonly higher: boolean;
}

export interface MeasureOptions {
  /** Rows of one forward pass. Default 8. */
  readonly batch?: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { readonly rows: number; readonly total: number }) => void) | undefined;
}

/** Made-up rows of equal length, for what memory a step takes. */
export interface RowShape {
  readonly rows: number;
  /** Tokens of each. */
  readonly length: number;
}

/**
 * What rows are to a model: how they are read, what the model learns from them, and how well it does on them. One file a task and one line in `lib/tasks/registry.ts`;
 * training and evaluation know no task by name.
 */
export interface Task<R extends EncodedRow> {
  readonly name: string;
  readonly decides: DecidingMeasure;
  /** Opens sources; throws `ConfigError` for fields that the task does not read. */
  open(sources: DataSources, options: DatasetOptions): Promise<RowSet<R>>;
  batch(rows: readonly R[], place: BatchPlace): TaskBatch;
  /** What the model reads of rows that do not hold one `input` each. */
  inputs?(rows: readonly R[]): EncoderRows;
  /** Runs the model over all rows. Throws `InvalidArgumentError` where they hold no target. */
  measure(rows: RowSet<R>, options?: MeasureOptions): Promise<Measured>;
  /** Tokens of a row at most, where its texts are cut to so many each. Default: as many. */
  mostTokens?(sequence: number): number;
  /** A made-up batch; undefined where nothing says what rows look like. */
  trial(shape: RowShape): TaskBatch | undefined;
}

// Rows are made and read by the same task.
// biome-ignore lint/suspicious/noExplicitAny: erased row type of a task
export type AnyTask = Task<any>;
