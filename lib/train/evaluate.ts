import { type Batch, collate, targetCount } from '../data/batch.js';
import type { RowSet } from '../data/dataset.js';
import type { Sequence } from '../data/encode.js';
import { openDataset } from '../data/open-dataset.js';
import { type DataSource, type DataSources, sourceList } from '../data/source.js';
import { InvalidArgumentError, throwIfAborted } from '../errors.js';
import type { LanguageModel } from '../model.js';
import { noGrad, scope } from '../scope.js';
import { labelAccuracy } from './accuracy.js';

export interface EvaluateOptions {
  /** Rows are cut to this many tokens. Default: the model's context. */
  readonly maxLength?: number;
  /** Rows of one forward pass; results do not depend on it. Default 8. */
  readonly batch?: number;
  /** Rows that cannot be parsed or lack fields: an error (default), or left out. */
  readonly badRows?: 'error' | 'skip';
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { readonly rows: number; readonly total: number }) => void) | undefined;
}

export interface Evaluation {
  /** Mean negative log-likelihood of every predicted token, in nats. */
  readonly nll: number;
  /** exp(nll). */
  readonly perplexity: number;
  /** Predicted tokens: of a text all but its first, of a completion or conversation those that training learns. */
  readonly tokens: number;
  readonly sequences: number;
  /** With `labels`: the part of the rows whose own label is the likeliest of them. */
  readonly accuracy?: number;
}

/**
 * How well a model predicts held-out rows: one data source as in `train` or several, or texts.
 *
 * Each row is one document, tokenised as in training: the tokenizer's own special tokens and the text. Throws as the readers of `lorikeet/data` do, and
 * `InvalidArgumentError` when no token is left to predict.
 *
 * @example
 * const { perplexity } = await evaluate(model, { path: 'dev.jsonl', field: 'text' });
 */
export async function evaluate(
  model: LanguageModel,
  rows: DataSources | Iterable<string>,
  options: EvaluateOptions = {},
): Promise<Evaluation> {
  const sources = await Promise.all(sourceList(isSources(rows) ? rows : { rows: rows as Iterable<string> }).map(repeatable));
  const maxLength = options.maxLength ?? model.network.shape.contextLength;
  if (!Number.isInteger(maxLength) || maxLength < 2)
    throw new InvalidArgumentError(`evaluate: maxLength must be a whole number of at least 2; got ${maxLength}`);
  const { badRows = 'error', signal } = options;
  const dataset = await openDataset(sources, model.tokenizer, { sequence: maxLength, badRows, emptyRows: 'keep', signal });
  try {
    const result = await evaluateDataset(model, dataset, options);
    const labelled = sources.filter(({ labels }) => labels !== undefined);
    return labelled.length === 0 ? result : { ...result, accuracy: await labelAccuracy(model, labelled, maxLength, options) };
  } finally {
    await dataset.close();
  }
}

/** A source whose rows can be read once more for the accuracy of their labels. */
async function repeatable(source: DataSource): Promise<DataSource> {
  if (source.rows === undefined || source.labels === undefined || Array.isArray(source.rows)) return source;
  const rows: (string | Readonly<Record<string, unknown>>)[] = [];
  for await (const row of source.rows) rows.push(row);
  return { ...source, rows };
}

function isSources(rows: DataSources | Iterable<string>): rows is DataSources {
  if (!(Symbol.iterator in rows)) return true;
  return Array.isArray(rows) && rows.length > 0 && rows.every((row) => typeof row === 'object' && row !== null);
}

/** Rows read at once; so many are held in memory where they are streamed. */
const kRowsTogether = 4096;

/** `evaluate` for rows of an opened dataset. */
export async function evaluateDataset(model: LanguageModel, dataset: RowSet, options: EvaluateOptions = {}): Promise<Evaluation> {
  const { onProgress } = options;
  let total = 0;
  let tokens = 0;
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
      tokens += targetCount(sequence);
    }
    rows += sequences.length;
  }
  if (tokens === 0)
    throw new InvalidArgumentError(`evaluate: "${dataset.name}" has no token to predict; got ${rows} rows of at most one token`);
  const nll = total / tokens;
  return { nll, perplexity: Math.exp(nll), tokens, sequences: rows };
}

/** The summed negative log-likelihood of the targets of each sequence, in nats; rows of similar length go through the model together. */
export async function sequenceLosses(
  model: LanguageModel,
  sequences: readonly Sequence[],
  options: EvaluateOptions = {},
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

async function batchLosses(model: LanguageModel, { ids, targets }: Batch): Promise<number[]> {
  const [values, width] = await scope(async () => {
    const losses = noGrad(() => model.loss({ ids, targets, reduction: 'none', training: false }));
    return [await losses.data(), losses.shape[1] ?? 0] as const;
  });
  return ids.map((_, row) => {
    let sum = 0;
    for (let t = 0; t < width; t++) sum += Number(values[row * width + t]);
    return sum;
  });
}
