import { type Batch, collate, inputOf, targetCount } from '../data/batch.js';
import type { RowSet } from '../data/dataset.js';
import type { Sequence } from '../data/encode.js';
import { openDataset } from '../data/open-dataset.js';
import { InvalidArgumentError, throwIfAborted } from '../errors.js';
import type { LanguageModel } from '../model.js';
import { noGrad, scope } from '../scope.js';
import type { Measured, MeasureOptions, Task } from './task.js';

/** Learning to predict the next token: of a text, a completion or what the assistant says. Cross-entropy over every token that is learnt. */
export function languageTask(model: LanguageModel): Task<Sequence> {
  return {
    name: 'language',
    decides: { name: 'loss', higher: false },
    open: (sources, options) => openDataset(sources, model.tokenizer, options),
    batch(rows) {
      const batch = collate(rows);
      return {
        targets: batch.targetCount,
        tokens: batch.tokens,
        loss: ({ training, checkpointing = false }) => model.loss({ ...inputOf(batch), reduction: 'sum', training, checkpointing }),
      };
    },
    measure: (rows, options) => measureLanguage(model, rows, options),
    trial({ rows, length }) {
      const ids = Array.from({ length: rows }, () => new Array<number>(Math.max(1, length - 1)).fill(0));
      return {
        targets: rows * length,
        tokens: rows * length,
        loss: ({ training, checkpointing = false }) =>
          model.loss({ ids, targets: ids, tasks: ids.map(() => 0), reduction: 'sum', training, checkpointing }),
      };
    },
  };
}

/** Rows read at once; so many are held in memory where they are streamed. */
const kRowsTogether = 4096;

/** The mean loss over every predicted token of rows of an opened dataset. */
export async function measureLanguage(model: LanguageModel, dataset: RowSet, options: MeasureOptions = {}): Promise<Measured> {
  const { onProgress } = options;
  let total = 0;
  let targets = 0;
  let rows = 0;
  for (let start = 0; start < dataset.length; start += kRowsTogether) {
    const indices = Array.from({ length: Math.min(kRowsTogether, dataset.length - start) }, (_, index) => start + index);
    const sequences = (await dataset.rows(indices)).filter((sequence) => sequence !== undefined);
    const progress = onProgress && {
      onProgress: (part: { rows: number }) => onProgress({ rows: start + part.rows, total: dataset.length }),
    };
    const sums = await sequenceLosses(model, sequences, { ...options, ...progress });
    // In file order, so that the result does not depend on how rows were batched.
    for (const [index, sequence] of sequences.entries()) {
      total += sums[index] ?? 0;
      targets += targetCount(sequence);
    }
    rows += sequences.length;
  }
  if (targets === 0)
    throw new InvalidArgumentError(`evaluate: "${dataset.name}" has no token to predict; got ${rows} rows of at most one token`);
  return { loss: total / targets, metrics: {}, targets, rows };
}

/** The summed negative log-likelihood of the targets of each sequence, in nats; rows of similar length go through the model together. */
export async function sequenceLosses(
  model: LanguageModel,
  sequences: readonly Sequence[],
  options: MeasureOptions = {},
): Promise<Float64Array> {
  const { batch = 8, signal, onProgress } = options;
  const sums = new Float64Array(sequences.length);
  const order = [...sequences.keys()].filter((index) => targetCount(sequences[index] as Sequence) > 0);
  order.sort((a, b) => (sequences[b]?.ids.length ?? 0) - (sequences[a]?.ids.length ?? 0) || a - b);
  for (let start = 0; start < order.length; start += batch) {
    throwIfAborted(signal, 'evaluate');
    const indices = order.slice(start, start + batch);
    const losses = await batchLosses(model, collate(indices.map((index) => sequences[index] as Sequence)));
    for (const [row, index] of indices.entries()) sums[index] = losses[row] ?? 0;
    onProgress?.({ rows: Math.min(start + batch, order.length), total: order.length });
  }
  return sums;
}

async function batchLosses(model: LanguageModel, batch: Batch): Promise<number[]> {
  const [values, width] = await scope(async () => {
    const losses = noGrad(() => model.loss({ ...inputOf(batch), reduction: 'none', training: false }));
    return [await losses.data(), losses.shape[1] ?? 0] as const;
  });
  return batch.ids.map((_, row) => {
    let sum = 0;
    for (let t = 0; t < width; t++) sum += Number(values[row * width + t]);
    return sum;
  });
}
