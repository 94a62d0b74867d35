import { type DataSource, readExamples } from '../data/dataset.js';
import { encodeCompletion, type Sequence } from '../data/encode.js';
import type { Example } from '../data/example.js';
import { FormatError } from '../errors.js';
import type { LanguageModel } from '../model.js';
import { type EvaluateOptions, sequenceLosses } from './evaluate.js';

type Completion = Extract<Example, { kind: 'completion' }>;

/** Rows whose choices are scored together. */
const kRowsTogether = 32;

/**
 * The part of the rows whose own label has the highest likelihood of all labels after the prompt: the sum over the tokens of the completion, its end token not
 * counted. Of equally likely labels the first counts.
 */
export async function labelAccuracy(
  model: LanguageModel,
  source: DataSource,
  maxLength: number,
  options: EvaluateOptions,
): Promise<number> {
  let right = 0;
  let rows = 0;
  const score = async (examples: readonly Completion[]): Promise<void> => {
    const sequences = (await Promise.all(examples.map((example) => choiceSequences(model, example, maxLength)))).flat();
    const losses = await sequenceLosses(model, sequences, { ...options, onProgress: undefined });
    let start = 0;
    for (const { choices = [], completion } of examples) {
      const own = losses.subarray(start, start + choices.length);
      start += choices.length;
      if (choices[own.indexOf(Math.min(...own))] === completion) right++;
    }
    rows += examples.length;
  };
  let waiting: Completion[] = [];
  for await (const example of readExamples(source)) {
    if (example.kind !== 'completion') continue;
    if (waiting.push(example) < kRowsTogether) continue;
    await score(waiting);
    waiting = [];
  }
  await score(waiting);
  return right / rows;
}

/** The prompt with each choice after it, of which the choice is to be predicted. */
async function choiceSequences(model: LanguageModel, { prompt, choices = [], where }: Completion, maxLength: number): Promise<Sequence[]> {
  return Promise.all(
    choices.map(async (choice) => {
      const { ids, promptLength } = await encodeCompletion(model.tokenizer, prompt, choice);
      if (ids.length > maxLength)
        throw new FormatError(`${where}: prompt and label do not fit; got ${ids.length} tokens, expected at most ${maxLength}`);
      return { ids: Int32Array.from(ids), learnt: new Uint8Array(ids.length).fill(1, Math.max(1, promptLength)), where };
    }),
  );
}
