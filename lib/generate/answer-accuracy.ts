import { type AnswerKind, answerIn, isAnswered } from '../data/answers.js';
import { type Instruction, instructionPrompt, type PromptStyle } from '../data/instructions.js';
import { InvalidArgumentError } from '../errors.js';
import type { LanguageModel } from '../model.js';
import { generateBatch } from './generate.js';
import type { GenerateOptions } from './options.js';

export interface AnswerOptions extends Pick<GenerateOptions, 'adapters' | 'signal' | 'maxNewTokens' | 'stop'> {
  /** How answers are found in responses. */
  readonly kind: AnswerKind;
  /** How rows are put to the model. Default `plain`. */
  readonly style?: PromptStyle;
  /** Rows generated together; results do not depend on it. Default 16. */
  readonly batch?: number;
  readonly onProgress?: (progress: { readonly rows: number; readonly right: number; readonly total: number }) => void;
}

/** What a model answered to one row. */
export interface Answered {
  readonly response: string;
  /** The answer found in it; undefined, or infinity for numbers, where there is none. */
  readonly answer: string | number | undefined;
  readonly right: boolean;
}

export interface AnswerAccuracy {
  /** The part of the rows that are answered right. */
  readonly accuracy: number;
  readonly rows: readonly Answered[];
}

/** As published: short texts where one word is asked for. */
const tokensOf = (kind: AnswerKind): number => (kind === 'number' || kind === 'letter' || kind === 'first-letter' ? 256 : 32);

/**
 * Puts rows to a model and scores what it answers: the most likely response (temperature 0) of up to 256 tokens, of 32 where the answer is a word.
 *
 * @example
 * const { accuracy } = await answerAccuracy(tuned, rows, { kind: 'number' });
 *
 * Throws `InvalidArgumentError` for no rows, and for prompts that do not fit; `FormatError` for a row whose answer cannot be compared.
 */
export async function answerAccuracy(model: LanguageModel, rows: readonly Instruction[], options: AnswerOptions): Promise<AnswerAccuracy> {
  const { kind, style, batch = 16, onProgress, maxNewTokens = tokensOf(kind), ...rest } = options;
  if (rows.length === 0) throw new InvalidArgumentError('answers: there are no rows to answer; expected at least one');
  if (!Number.isInteger(batch) || batch < 1) throw new InvalidArgumentError(`answers: batch must be a positive integer; got ${batch}`);
  // A row that cannot be scored shows before anything is generated.
  for (const [index, row] of rows.entries()) isAnswered('', row, kind, index);
  const answered: Answered[] = [];
  let right = 0;
  for (let start = 0; start < rows.length; start += batch) {
    const part = rows.slice(start, start + batch);
    const prompts = part.map((row) => instructionPrompt(row, style));
    const samples = await generateBatch(model, prompts, { ...rest, maxNewTokens, temperature: 0 });
    for (const [place, { text }] of samples.entries()) {
      const index = start + place;
      const isRight = isAnswered(text, rows[index] as Instruction, kind, index);
      answered.push({ response: text, answer: answerIn(text, kind), right: isRight });
      if (isRight) right++;
    }
    onProgress?.({ rows: answered.length, right, total: rows.length });
  }
  return { accuracy: right / rows.length, rows: answered };
}
