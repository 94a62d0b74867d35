import { ConfigError, FormatError } from '../errors.js';
import type { RowOptions, RowSet } from './dataset.js';
import type { Sequence } from './encode.js';
import { LengthGroupedOrder } from './length-groups.js';
import { MixedOrder } from './mixed-order.js';
import { PackingPlan } from './packing.js';
import type { EncodedRow } from './row-encoding.js';

export interface StepOptions {
  /** Sequences of one forward pass, and forward passes of one step. */
  readonly batch: number;
  readonly accumulate: number;
  /** Rows are cut to this many tokens; the size of a pack. */
  readonly sequence: number;
  readonly shuffle: boolean;
  readonly seed: number;
  readonly packing: boolean;
  readonly lengthGrouped: boolean;
}

/** The rows of each step: of every sequence, the rows that it holds. */
export type StepRows = (step: number) => readonly (readonly number[])[];

/** How full packs are. */
export interface PackingFill {
  readonly rows: number;
  readonly packs: number;
  /** Tokens in packs by tokens that would fit. */
  readonly rate: number;
}

/**
 * Gives a training loop the sequences of each step, a function of the step alone. While one step is computed, the rows of the next are read.
 *
 * @example
 * const loader = await StepLoader.open(rows, { batch: 8, accumulate: 1, sequence: 512, shuffle: true, seed: 1, packing: true, lengthGrouped: false });
 * for (let step = 1; step <= 100; step++) {
 *   const { ids, targets, documents } = collate(await loader.take(step));
 * }
 * await loader.close();
 */
export class StepLoader<R extends EncodedRow = Sequence> {
  /** With packing: how full the packs are. */
  readonly fill: PackingFill | undefined;
  readonly #set: RowSet<R>;
  readonly #rows: StepRows;
  #ahead: { readonly step: number; readonly sequences: Promise<R[]> } | undefined;

  private constructor(set: RowSet<R>, rows: StepRows, fill: PackingFill | undefined) {
    this.#set = set;
    this.#rows = rows;
    this.fill = fill;
  }

  /**
   * Sources of `set` with weights are mixed by them, others by their numbers of rows. Throws `ConfigError` for options that exclude each other; with `packing` and
   * `lengthGrouped` all rows are tokenised first.
   */
  static async open<R extends EncodedRow>(
    set: RowSet<R>,
    options: StepOptions,
    progress: Pick<RowOptions, 'signal' | 'onProgress'> = {},
  ): Promise<StepLoader<R>> {
    const { batch, accumulate, sequence, shuffle, packing, lengthGrouped } = options;
    checkStepOptions(options);
    if (packing && set.join === undefined)
      throw new ConfigError('training.packing: only texts of language models can share a sequence; got it for other rows, expected false');
    const seed = shuffle ? options.seed : undefined;
    const weights = set.sources.map(({ weight, rows }) => weight ?? rows);
    const order = new MixedOrder(
      set.sources.map(({ rows }) => rows),
      { weights, seed },
    );
    if (packing) {
      const plan = new PackingPlan(order, { lengths: await usableLengths(set, progress), sequence, seed });
      return new StepLoader(set, (step) => plan.step(step, batch * accumulate), plan.fill());
    }
    if (lengthGrouped) {
      const grouped = new LengthGroupedOrder(order, { lengths: await usableLengths(set, progress), batch, accumulate, seed: options.seed });
      return new StepLoader(set, (step) => grouped.step(step).map((row) => [row]), undefined);
    }
    const rows = batch * accumulate;
    return new StepLoader(set, (step) => Array.from({ length: rows }, (_, index) => [order.at((step - 1) * rows + index)]), undefined);
  }

  /**
   * The sequences of step `step`, counted from 1; nothing beyond step `last` is read ahead. Bad rows of a streamed file that are left out are missing from them. Throws `FormatError` where none is left, and as
   * `RowSet.rows` does.
   */
  async take(step: number, last = Number.POSITIVE_INFINITY): Promise<R[]> {
    const sequences = await (this.#ahead?.step === step ? this.#ahead.sequences : this.#load(step));
    if (step >= last) return sequences;
    const next = this.#load(step + 1);
    // An error of the next step is told when that step is asked for.
    next.catch(() => undefined);
    this.#ahead = { step: step + 1, sequences: next };
    return sequences;
  }

  async #load(step: number): Promise<R[]> {
    const packs = this.#rows(step);
    const rows = await this.#set.rows(packs.flat());
    let at = 0;
    const sequences = packs.flatMap((pack) => {
      const own = rows.slice(at, at + pack.length).filter((row) => row !== undefined);
      at += pack.length;
      return own.length > 1 ? [this.#join(own)] : own;
    });
    if (sequences.length > 0) return sequences;
    throw new FormatError(`data: every row of step ${step} of "${this.#set.name}" is bad; the first of all: ${this.#set.skipped.first[0]}`);
  }

  #join(rows: readonly R[]): R {
    return (this.#set.join as (rows: readonly R[]) => R)(rows);
  }

  /** Waits for what is being read, and closes the rows. */
  async close(): Promise<void> {
    await this.#ahead?.sequences.catch(() => undefined);
    this.#ahead = undefined;
    await this.#set.close();
  }
}

/** Throws `ConfigError` for options that exclude each other. */
export function checkStepOptions({ packing, lengthGrouped, shuffle }: Pick<StepOptions, 'packing' | 'lengthGrouped' | 'shuffle'>): void {
  if (!lengthGrouped) return;
  if (packing)
    throw new ConfigError('training.lengthGrouped: packs are filled already; got it with `packing: true`, expected one of the two');
  if (!shuffle) throw new ConfigError('training.lengthGrouped: rows are put in another order; got it with `shuffle: false`, expected true');
}

async function usableLengths<R extends EncodedRow>(
  set: RowSet<R>,
  progress: Pick<RowOptions, 'signal' | 'onProgress'>,
): Promise<Uint32Array> {
  const lengths = await set.lengths(progress);
  if (lengths.some((length) => length > 0)) return lengths;
  throw new ConfigError(`data: "${set.name}" has no rows; all were left out: ${set.skipped.first.join('; ')}`);
}
