import { ConfigError, InvalidArgumentError } from '../errors.js';
import type { LossInput, Model } from '../model.js';
import type { TokenRows } from '../models/batch.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';

/** Rows of token ids, or such rows with the targets and documents that a training step gets. */
export type CalibrationBatch = TokenRows | Pick<LossInput, 'ids' | 'targets' | 'documents'>;

/** Batches to look at before training, and how the network runs on one: for networks of one's own. */
export interface CalibrationRuns<Batch = unknown> {
  readonly batches: Iterable<Batch> | AsyncIterable<Batch>;
  /** Runs the network on a batch; `head` asks for the output head as well, which a model otherwise leaves out. */
  forward(batch: Batch, head: boolean): unknown;
  /** The loss of a batch, a number on the tape; for methods that look at gradients. */
  loss?(batch: Batch): Tensor;
  /**
   * For every row of the layers' flattened inputs [rows, K], whether it counts: padding does not. `learnt` asks for the rows that a target belongs to, where there
   * are targets. Absent, or undefined for a batch: all rows count.
   */
  counts?(batch: Batch, learnt: boolean): readonly boolean[] | undefined;
  /** Examples of a batch. An input with one row for each, such as that of a pooler, counts whole, each row as a sample. */
  examples?(batch: Batch): number;
}

/** What `attach` takes as `data`: batches of token ids for a model, or batches and the way to run them for a network of one's own. */
export type CalibrationData = Iterable<CalibrationBatch> | AsyncIterable<CalibrationBatch> | CalibrationRuns;

/** Calibration batches as methods use them. Batches are kept as they come, so that they can be gone through several times. */
export class Calibration {
  readonly #runs: CalibrationRuns;
  readonly #kept: unknown[] = [];
  #source: AsyncIterator<unknown> | Iterator<unknown> | undefined;

  constructor(runs: CalibrationRuns) {
    this.#runs = runs;
  }

  /** Throws `ConfigError` where a model gets no batches that it can read. */
  static of(data: CalibrationData, model: Pick<Model, 'forward' | 'head' | 'loss'> | undefined): Calibration {
    if ('batches' in data) return new Calibration(data);
    if (model === undefined)
      throw new ConfigError("attach: an encoder or a network of one's own needs data as { batches, forward, loss }; got batches alone");
    return new Calibration(tokenRuns(data, model));
  }

  /** The batches from the first on; the second time from memory. Throws `InvalidArgumentError` when there are none. */
  async *batches(): AsyncGenerator<unknown, void, undefined> {
    let index = 0;
    for (; ; index++) {
      if (index === this.#kept.length && !(await this.#take())) break;
      yield this.#kept[index];
    }
    if (index === 0) throw new InvalidArgumentError('attach: the data hold no batch; expected at least one');
  }

  /**
   * Runs the network on a batch, with its output head where `head` says so; the caller decides whether it is recorded. Throws `ConfigError` where `forward` is
   * asynchronous: what it would run later nobody sees.
   */
  forward(batch: unknown, head = false): void {
    scope(() => void atOnce('forward', this.#runs.forward(batch, head)));
  }

  /** The loss of a batch on the tape. Throws `ConfigError` where the data have none. */
  loss(batch: unknown): Tensor {
    if (this.#runs.loss === undefined) throw new ConfigError('attach: this initialisation looks at gradients; expected data with a "loss"');
    return atOnce('loss', this.#runs.loss(batch));
  }

  /** See `CalibrationRuns.counts`. */
  counts(batch: unknown, learnt: boolean): readonly boolean[] | undefined {
    return this.#runs.counts?.(batch, learnt);
  }

  /** See `CalibrationRuns.examples`. */
  examples(batch: unknown): number | undefined {
    return this.#runs.examples?.(batch);
  }

  /** Ends the reading of the source where it has not come to its end; the batches that were kept stay. */
  async close(): Promise<void> {
    await this.#source?.return?.();
  }

  async #take(): Promise<boolean> {
    const { batches } = this.#runs;
    this.#source ??= Symbol.asyncIterator in batches ? batches[Symbol.asyncIterator]() : batches[Symbol.iterator]();
    const { done, value } = await this.#source.next();
    if (done !== true) this.#kept.push(value);
    return done !== true;
  }
}

/** The result of a function of the user's own, which must not be a promise. */
function atOnce<T>(name: string, result: T): T {
  if (!(result instanceof Promise)) return result;
  result.catch(() => undefined);
  throw new ConfigError(
    `attach: "${name}" of the data has to run the network before it returns; got a promise, expected a function that is not async`,
  );
}

/** Whether an input [rows, K] of a layer has one row for each of so many examples. */
export const isOfExamples = ({ shape }: Tensor, examples: number | undefined): boolean => shape.length === 2 && shape[0] === examples;

/** Throws `ConfigError` unless there is one answer of `counts` for each of the `rows` of a layer's input. */
export function requireCounts(init: string, path: string, counts: number, rows: number): void {
  if (counts !== rows)
    throw new ConfigError(`${init}: the data tell of ${counts} rows whether they count; the input of "${path}" has ${rows}`);
}

function inputOf(batch: CalibrationBatch): Pick<LossInput, 'ids' | 'targets' | 'documents'> {
  return 'ids' in batch ? batch : { ids: batch };
}

function tokenRuns(
  batches: Iterable<CalibrationBatch> | AsyncIterable<CalibrationBatch>,
  model: Pick<Model, 'forward' | 'head' | 'loss'>,
): CalibrationRuns<CalibrationBatch> {
  return {
    batches,
    forward: (batch, head) => {
      const { ids, documents } = inputOf(batch);
      const hidden = model.forward(ids, documents === undefined ? {} : { documents });
      return head ? model.head(hidden) : hidden;
    },
    loss: (batch) => model.loss(inputOf(batch)),
    counts: (batch, learnt) => {
      const { ids, targets } = inputOf(batch);
      const width = Math.max(...ids.map((row) => row.length));
      return ids.flatMap((row, b) =>
        Array.from({ length: width }, (_, t) => t < row.length && !(learnt && targets !== undefined && (targets[b]?.[t] ?? -100) === -100)),
      );
    },
  };
}
