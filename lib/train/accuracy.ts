import { targetCount } from '../data/batch.js';
import { encodeCompletion, type Sequence } from '../data/encode.js';
import type { Example } from '../data/example.js';
import { tasksOf } from '../data/row-task.js';
import { type DataSource, readExamples } from '../data/source.js';
import { FormatError, throwIfAborted } from '../errors.js';
import type { LanguageModel } from '../model.js';
import { tensor } from '../ops/create.js';
import { indexSelect } from '../ops/index-ops.js';
import { reshape } from '../ops/shape.js';
import { noGrad, scope } from '../scope.js';
import { sequenceLosses } from '../tasks/language.js';
import type { EvaluateOptions } from './evaluate.js';

type Completion = Extract<Example, { kind: 'completion' }>;

/** Rows whose choices are scored together. */
const kRowsTogether = 32;

/**
 * The part of the rows whose own label has the highest likelihood of all labels after the prompt: the sum over the tokens of the completion, its end token not
 * counted. Of equally likely labels the first counts.
 */
export async function labelAccuracy(
  model: LanguageModel,
  sources: readonly DataSource[],
  maxLength: number,
  options: EvaluateOptions,
): Promise<number> {
  let right = 0;
  let rows = 0;
  const score = async (examples: readonly Completion[]): Promise<void> => {
    throwIfAborted(options.signal, 'evaluate');
    const found = await Promise.all(examples.map((example) => rivalsOf(model, example, maxLength, options)));
    const kept = examples.filter((_, index) => found[index] !== undefined);
    const rivals = found.filter((sequences) => sequences !== undefined);
    const losses = rivals.every(differInLast) ? await lastTokenLosses(model, rivals) : await wholeLosses(model, rivals, options);
    for (const [index, { choices = [], completion }] of kept.entries()) {
      const own = losses[index] ?? [];
      if (choices[own.indexOf(Math.min(...own))] === completion) right++;
    }
    rows += kept.length;
  };
  let waiting: Completion[] = [];
  for (const source of sources) {
    for await (const example of readExamples(source, options.badRows === undefined ? {} : { badRows: options.badRows })) {
      if (example.kind !== 'completion') continue;
      if (waiting.push(example) < kRowsTogether) continue;
      await score(waiting);
      waiting = [];
    }
  }
  if (waiting.length > 0) await score(waiting);
  return right / rows;
}

/** The prompt with each choice; undefined where they do not fit and bad rows are left out. */
async function rivalsOf(model: LanguageModel, example: Completion, maxLength: number, { badRows }: EvaluateOptions) {
  try {
    return await choiceSequences(model, example, maxLength);
  } catch (error) {
    if (badRows === 'skip' && error instanceof FormatError) return undefined;
    throw error;
  }
}

/** Whether sequences have all but their last token in common, and only that one is to be predicted. */
function differInLast([first, ...others]: readonly Sequence[]): boolean {
  if (first === undefined || targetCount(first) !== 1 || first.learnt.at(-1) !== 1) return false;
  const { ids } = first;
  return others.every(
    (other) =>
      other.ids.length === ids.length && targetCount(other) === 1 && other.ids.every((id, t) => t === ids.length - 1 || id === ids[t]),
  );
}

/** Negative log-likelihoods, up to a constant of each row, of rivals that differ in their last token: one pass over what they share. */
async function lastTokenLosses(model: LanguageModel, rivals: readonly (readonly Sequence[])[]): Promise<number[][]> {
  const prompts = rivals.map(([first]) => Array.from(first?.ids.subarray(0, -1) ?? []));
  const tasks = tasksOf(rivals.map(([first]) => first as Sequence));
  const options = { training: false, ...(tasks === undefined ? {} : { tasks }) };
  const [values, vocabulary] = await scope(async () => {
    const logits = noGrad(() => {
      const hidden = model.forward(prompts, options);
      const [batch = 0, time = 0, width = 0] = hidden.shape;
      const last = tensor(
        prompts.map((prompt, row) => row * time + prompt.length - 1),
        { dtype: 'i64' },
      );
      return model.head(indexSelect(reshape(hidden, [batch * time, width]), 0, last), options);
    });
    return [await logits.data(), logits.shape[1] ?? 0] as const;
  });
  return rivals.map((sequences, row) => sequences.map(({ ids }) => -Number(values[row * vocabulary + (ids.at(-1) ?? 0)])));
}

async function wholeLosses(model: LanguageModel, rivals: readonly (readonly Sequence[])[], options: EvaluateOptions): Promise<number[][]> {
  const losses = await sequenceLosses(model, rivals.flat(), { ...options, onProgress: undefined });
  let start = 0;
  return rivals.map((sequences) => {
    start += sequences.length;
    return Array.from(losses.subarray(start - sequences.length, start));
  });
}

/** The prompt with each choice after it, of which the choice is to be predicted. */
async function choiceSequences(model: LanguageModel, example: Completion, maxLength: number): Promise<Sequence[]> {
  const { prompt, choices = [], where, task } = example;
  return Promise.all(
    choices.map(async (choice) => {
      const { ids, promptLength } = await encodeCompletion(model.tokenizer, prompt, choice);
      if (ids.length > maxLength)
        throw new FormatError(`${where}: prompt and label do not fit; got ${ids.length} tokens, expected at most ${maxLength}`);
      const learnt = new Uint8Array(ids.length).fill(1, Math.max(1, promptLength));
      return { ids: Int32Array.from(ids), learnt, where, ...(task === undefined ? {} : { task }) };
    }),
  );
}
