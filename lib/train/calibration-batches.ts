import { collate, inputOf } from '../data/batch.js';
import type { Sequence } from '../data/encode.js';
import type { DataSources } from '../data/source.js';
import { StepLoader } from '../data/step-loader.js';
import { ConfigError, throwIfAborted } from '../errors.js';
import type { CalibrationBatch, CalibrationRuns } from '../inits/calibration.js';
import { isLanguageModel, type LanguageModel } from '../model.js';
import type { TokenRows } from '../models/batch.js';
import type { EncoderRows } from '../models/encoder-batch.js';
import { ignoredTarget } from '../models/language-loss.js';
import { mul } from '../ops/elementwise.js';
import type { TaskModel } from '../task-model.js';
import type { EmbeddingLoss } from '../tasks/embedding/config.js';
import { type EncoderRow, inputsOf } from '../tasks/encoder-rows.js';
import { taskOf } from '../tasks/registry.js';
import { type TrainingOptions, type TrainOptions, trainingSettings } from './options.js';

/** Options of `calibrationBatches`. */
export interface CalibrationBatchOptions extends Pick<TrainOptions, 'signal' | 'onData'> {
  /** Rows (with packing: packs) of a batch. Default 4. */
  readonly batchSize?: number | undefined;
  /** Batches; fewer where the rows end before. Default 64. */
  readonly batches?: number | undefined;
  /** The training that is to follow: what of it decides how rows are cut, packed and ordered is heeded. */
  readonly training?: TrainingOptions;
  /** Rows that cannot be parsed, lack fields or hold nothing to learn: an error (default), or left out. */
  readonly badRows?: 'error' | 'skip' | undefined;
}

const kDefaults = { batchSize: 4, batches: 64 };

/**
 * The first batches that a training on these sources would see, for the `data` of `attach`: of a language model token ids with their targets, and documents where
 * rows are packed; of an encoder rows of its task with the way to run it on them.
 *
 * Throws `ConfigError` for wrong options and as `train` does for rows, `CancelledError` when the signal fires.
 *
 * @example
 * const data = await calibrationBatches(model, { path: 'notes.jsonl' }, { batches: 32 });
 * const tuned = await attach(model, { type: 'lora', init: 'eva' }, { data });
 */
export function calibrationBatches(
  model: LanguageModel,
  sources: DataSources,
  options?: CalibrationBatchOptions,
): Promise<CalibrationBatch[]>;
export function calibrationBatches(model: TaskModel, sources: DataSources, options?: CalibrationBatchOptions): Promise<CalibrationRuns>;
export function calibrationBatches(
  model: LanguageModel | TaskModel,
  sources: DataSources,
  options?: CalibrationBatchOptions,
): Promise<CalibrationBatch[] | CalibrationRuns>;
export async function calibrationBatches(
  model: LanguageModel | TaskModel,
  sources: DataSources,
  options: CalibrationBatchOptions = {},
): Promise<CalibrationBatch[] | CalibrationRuns> {
  const batches = await rowBatches(model, sources, options);
  return isLanguageModel(model)
    ? batches.map((rows) => inputOf(collate(rows as Sequence[])))
    : taskRuns(model, batches as EncoderRow[][], trainingSettings(model, options.training).loss);
}

/** The rows of each batch. */
async function rowBatches(model: LanguageModel | TaskModel, sources: DataSources, options: CalibrationBatchOptions): Promise<unknown[][]> {
  const { signal, onData: onProgress, badRows = 'error' } = options;
  const { batchSize = kDefaults.batchSize, batches = kDefaults.batches } = options;
  for (const [key, value] of Object.entries({ batchSize, batches }))
    if (!Number.isSafeInteger(value) || value < 1) throw new ConfigError(`calibration: ${key} must be a positive integer; got ${value}`);
  const settings = { ...trainingSettings(model, options.training), batch: batchSize, accumulate: 1 };
  const emptyRows = settings.emptyRows === 'skip' ? 'skip' : badRows;
  const rows = await taskOf(model, settings.loss).open(sources, { sequence: settings.sequence, badRows, emptyRows, signal, onProgress });
  const loader = await StepLoader.open(rows, settings, { signal, onProgress }).catch(async (error: unknown) => {
    await rows.close();
    throw error;
  });
  try {
    const count = Math.min(batches, Math.ceil((loader.fill?.packs ?? rows.length) / batchSize));
    const found: unknown[][] = [];
    for (let step = 1; step <= count; step++) {
      throwIfAborted(signal, 'calibration');
      found.push(await loader.take(step, count));
    }
    return found;
  } finally {
    await loader.close();
  }
}

/** How an encoder runs on rows of its task; padding of texts does not count. */
function taskRuns(
  model: TaskModel,
  batches: readonly EncoderRow[][],
  loss: EmbeddingLoss | undefined,
): CalibrationRuns<readonly EncoderRow[]> {
  const task = taskOf(model, loss);
  const read = (rows: readonly EncoderRow[]): EncoderRows => task.inputs?.(rows) ?? inputsOf(model, rows);
  return {
    batches,
    forward: (rows) => model.forward(read(rows)),
    loss(rows) {
      const batch = task.batch(rows, { seed: 0, step: 0, first: 0 });
      return mul(batch.loss({ training: model.network.training }), 1 / batch.targets);
    },
    counts(rows, learnt) {
      if (model.network.modality !== 'text') return undefined;
      const { ids } = read(rows) as { readonly ids: TokenRows };
      const width = Math.max(...ids.map((row) => row.length));
      const targetsOf = (row: EncoderRow | undefined) =>
        learnt && model.task === 'token-classification' ? (row?.target as number[]) : undefined;
      return ids.flatMap((row, b) => {
        const targets = targetsOf(rows[b]);
        return Array.from({ length: width }, (_, t) => t < row.length && (targets === undefined || targets[t] !== ignoredTarget));
      });
    },
    examples: (rows) => (model.task === 'embedding' ? (read(rows) as { readonly ids: TokenRows }).ids.length : rows.length),
  };
}
