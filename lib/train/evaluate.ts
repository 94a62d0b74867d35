import { openDataset } from '../data/open-dataset.js';
import { describeInput } from '../data/row.js';
import { type DataSources, repeatable, sourceList } from '../data/source.js';
import { ConfigError, InvalidArgumentError } from '../errors.js';
import type { AnswerProgress } from '../generate/answer-accuracy.js';
import { isLanguageModel, type LanguageModel } from '../model.js';
import type { EncoderTask } from '../models/encoder.js';
import { tokenRoom } from '../nn/virtual-tokens.js';
import { requireBatch } from '../predict.js';
import { checked } from '../recipe.js';
import type { TaskModel } from '../task-model.js';
import { type EmbeddingLoss, type EmbeddingLossOptions, embeddingLossSchema, requireEmbedding } from '../tasks/embedding/config.js';
import { measureLanguage } from '../tasks/language.js';
import { taskOf } from '../tasks/registry.js';
import type { Measured } from '../tasks/task.js';
import { labelAccuracy } from './accuracy.js';
import { answerSettings, type EvaluationOptions, heldAnswerAccuracy, readHeldQuestions } from './held-answers.js';

export interface EvaluateOptions {
  /** Rows are cut to this many tokens. Default: the model's context. */
  readonly maxLength?: number;
  /** Rows of one forward pass; results do not depend on it. Default 8. */
  readonly batch?: number;
  /** Rows that cannot be parsed or lack fields: an error (default), or left out. */
  readonly badRows?: 'error' | 'skip';
  /** What embeddings are measured with. Default: multiple-negatives, and cosine where a source names a `score`. */
  readonly loss?: EmbeddingLossOptions | undefined;
  /** Of a language model: also generate answers to the prompts of the rows, and score them. */
  readonly answers?: EvaluationOptions['answers'];
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { readonly rows: number; readonly total: number }) => void) | undefined;
  /** Called after each batch of answers. */
  readonly onAnswers?: ((progress: AnswerProgress) => void) | undefined;
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
  /** With `answers`: the part of the rows whose generated answer is right. */
  readonly answerAccuracy?: number;
}

/** How well an encoder with the head of a task does on held-out rows. */
export interface TaskEvaluation extends Measured {
  readonly task: EncoderTask;
}

/**
 * How well a model predicts held-out rows: one data source as in `train` or several, or texts.
 *
 * Of a language model each row is one document, tokenised as in training: the tokenizer's own special tokens and the text. An encoder with the head of a task gives
 * the mean loss and the metrics of that task. Throws as the readers of `lorikeet/data` do, and
 * `InvalidArgumentError` when no token is left to predict.
 *
 * @example
 * const { perplexity } = await evaluate(model, { path: 'dev.jsonl', field: 'text' });
 * const { metrics } = await evaluate(classifier, { path: 'dev.jsonl', label: 'stars' });
 */
export function evaluate(model: TaskModel, rows: DataSources, options?: EvaluateOptions): Promise<TaskEvaluation>;
export function evaluate(model: LanguageModel, rows: DataSources | Iterable<string>, options?: EvaluateOptions): Promise<Evaluation>;
export function evaluate(
  model: LanguageModel | TaskModel,
  rows: DataSources | Iterable<string>,
  options: EvaluateOptions = {},
): Promise<Evaluation | TaskEvaluation> {
  if (options.batch !== undefined) requireBatch('evaluate', options.batch);
  if (typeof rows !== 'object' || rows === null)
    throw new ConfigError(`evaluate: rows have no source; got ${describeInput(rows)}, expected { path } or { rows }`);
  if (options.loss !== undefined) requireEmbedding('evaluate', isLanguageModel(model) ? undefined : model.task);
  if (isLanguageModel(model)) return evaluateLanguage(model, rows, options);
  answerSettings(model, options.answers && { answers: options.answers }, undefined);
  if (!isSources(rows) && Symbol.iterator in rows)
    throw new InvalidArgumentError(
      `evaluate: texts alone say nothing of task "${model.task}"; expected a source such as { rows } or { path }`,
    );
  return evaluateTask(model, rows as DataSources, options);
}

async function evaluateTask(model: TaskModel, sources: DataSources, options: EvaluateOptions): Promise<TaskEvaluation> {
  const { badRows = 'error', signal } = options;
  const task = taskOf(model, lossOf(model, sources, options));
  const held = await task.open(sources, { sequence: maxLengthOf(model, options), badRows, emptyRows: 'keep', signal });
  try {
    return { task: model.task, ...(await task.measure(held, options)) };
  } finally {
    await held.close();
  }
}

/** The loss that embeddings are measured with. */
function lossOf({ task }: TaskModel, sources: DataSources, { loss }: EvaluateOptions): EmbeddingLoss | undefined {
  const isScored = sourceList(sources).some(({ score }) => score !== undefined);
  return task === 'embedding' ? checked(embeddingLossSchema, loss ?? (isScored ? { type: 'cosine' } : {}), 'loss') : undefined;
}

/** The length that rows are cut to. */
function maxLengthOf({ network }: LanguageModel | TaskModel, { maxLength = tokenRoom(network) }: EvaluateOptions): number {
  if (!Number.isInteger(maxLength) || maxLength < 2)
    throw new InvalidArgumentError(`evaluate: maxLength must be a whole number of at least 2; got ${maxLength}`);
  return maxLength;
}

async function evaluateLanguage(model: LanguageModel, rows: DataSources | Iterable<string>, options: EvaluateOptions): Promise<Evaluation> {
  const given = sourceList(isSources(rows) ? rows : { rows: rows as Iterable<string> });
  const settings = answerSettings(model, options.answers && { answers: options.answers }, given);
  const isReadAgain = settings !== undefined || given.some(({ labels }) => labels !== undefined);
  const sources = isReadAgain ? await Promise.all(given.map(repeatable)) : given;
  const maxLength = maxLengthOf(model, options);
  const { badRows = 'error', signal } = options;
  // What cannot be scored shows before anything is computed.
  const held = settings && (await readHeldQuestions(model, sources, settings, badRows));
  const dataset = await openDataset(sources, model.tokenizer, { sequence: maxLength, badRows, emptyRows: 'keep', signal });
  try {
    const { loss: nll, targets: tokens, rows: sequences } = await measureLanguage(model, dataset, options);
    const result = { nll, perplexity: Math.exp(nll), tokens, sequences };
    const labelled = sources.filter(({ labels }) => labels !== undefined);
    return {
      ...result,
      ...(labelled.length === 0 ? {} : { accuracy: await labelAccuracy(model, labelled, maxLength, options) }),
      ...(held === undefined ? {} : { answerAccuracy: await heldAnswerAccuracy(model, held, { signal, onProgress: options.onAnswers }) }),
    };
  } finally {
    await dataset.close();
  }
}

function isSources(rows: DataSources | Iterable<string>): rows is DataSources {
  if (!(Symbol.iterator in rows)) return true;
  return Array.isArray(rows) && rows.length > 0 && rows.every((row) => typeof row === 'object' && row !== null);
}
