import { collate, inputOf } from '../data/batch.js';
import { openDataset } from '../data/open-dataset.js';
import type { DataSources } from '../data/source.js';
import { StepLoader } from '../data/step-loader.js';
import { ConfigError, throwIfAborted } from '../errors.js';
import type { CalibrationBatch } from '../inits/calibration.js';
import type { LanguageModel } from '../model.js';
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
 * The first batches that a training on these sources would see, for the `data` of `attach`: token ids with their targets, and documents where rows are packed.
 *
 * Throws `ConfigError` for wrong options and as `train` does for rows, `CancelledError` when the signal fires.
 *
 * @example
 * const data = await calibrationBatches(model, { path: 'notes.jsonl' }, { batches: 32 });
 * const tuned = await attach(model, { type: 'lora', init: 'eva' }, { data });
 */
export async function calibrationBatches(
  model: LanguageModel,
  sources: DataSources,
  options: CalibrationBatchOptions = {},
): Promise<CalibrationBatch[]> {
  const { signal, onData: onProgress, badRows = 'error' } = options;
  const { batchSize = kDefaults.batchSize, batches = kDefaults.batches } = options;
  for (const [key, value] of Object.entries({ batchSize, batches }))
    if (!Number.isSafeInteger(value) || value < 1) throw new ConfigError(`calibration: ${key} must be a positive integer; got ${value}`);
  const settings = { ...trainingSettings(model, options.training), batch: batchSize, accumulate: 1 };
  const emptyRows = settings.emptyRows === 'skip' ? 'skip' : badRows;
  const rows = await openDataset(sources, model.tokenizer, { sequence: settings.sequence, badRows, emptyRows, signal, onProgress });
  const loader = await StepLoader.open(rows, settings, { signal, onProgress }).catch(async (error: unknown) => {
    await rows.close();
    throw error;
  });
  try {
    const count = Math.min(batches, Math.ceil((loader.fill?.packs ?? rows.length) / batchSize));
    const found: CalibrationBatch[] = [];
    for (let step = 1; step <= count; step++) {
      throwIfAborted(signal, 'calibration');
      found.push(inputOf(collate(await loader.take(step, count))));
    }
    return found;
  } finally {
    await loader.close();
  }
}
