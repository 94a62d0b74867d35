import { type AnswerKind, answerIn, isAnswered, isRight } from '../data/answers.js';
import { type Instruction, instructionPrompt, type PromptStyle } from '../data/instructions.js';
import type { Question } from '../data/questions.js';
import { InvalidArgumentError } from '../errors.js';
import type { LanguageModel } from '../model.js';
import { generateBatch } from './generate.js';
import { type GenerateOptions, type Prompt, promptIds, settingsOf } from './options.js';

/** How responses are generated and scored. */
export interface ResponseOptions
  extends Pick<GenerateOptions, 'adapters' | 'signal' | 'maxNewTokens' | 'stop' | 'beams' | 'lengthPenalty' | 'earlyStopping'> {
  /** How answers are found in responses. */
  readonly kind: AnswerKind;
  /** Rows generated together; results do not depend on it. Default 16. */
  readonly batch?: number;
  readonly onProgress?: ((progress: AnswerProgress) => void) | undefined;
}

export interface AnswerOptions extends ResponseOptions {
  /** How rows are put to the model. Default `plain`. */
  readonly style?: PromptStyle;
}

/** How far the answering of questions is. */
export interface AnswerProgress {
  /** Rows that are answered, and those of them that are answered right. */
  readonly rows: number;
  readonly right: number;
  readonly total: number;
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
export async function answerAccuracy(
  model: LanguageModel,
  rows: readonly Instruction[],
  { style, ...options }: AnswerOptions,
): Promise<AnswerAccuracy> {
  // A row that cannot be scored shows before anything is generated.
  for (const [index, row] of rows.entries()) isAnswered('', row, options.kind, index);
  const questions = rows.map((row, index) => ({
    prompt: instructionPrompt(row, style),
    answer: row.answer ?? '',
    where: `row ${index}`,
  }));
  return scoreResponses(model, questions, options);
}

/** The same for questions; those of one task share a batch. */
export async function scoreResponses(
  model: LanguageModel,
  questions: readonly Question[],
  options: ResponseOptions,
): Promise<AnswerAccuracy> {
  requireAskable(model, questions, options);
  const { kind, batch = 16, onProgress, maxNewTokens = tokensOf(kind), ...rest } = options;
  const answered = new Array<Answered>(questions.length);
  let [rows, right] = [0, 0];
  for (const places of batchesOf(questions, batch)) {
    const part = places.map((place) => questions[place] as Question);
    const task = part[0]?.task;
    const prompts = part.map((question) => promptOf(model, question));
    const samples = await generateBatch(model, prompts, {
      ...rest,
      maxNewTokens,
      temperature: 0,
      ...(task === undefined ? {} : { task }),
    });
    for (const [index, { text }] of samples.entries()) {
      const { answer, where } = part[index] as Question;
      const found = { response: text, answer: answerIn(text, kind), right: isRight(text, answer, kind, where) };
      answered[places[index] as number] = found;
      if (found.right) right++;
    }
    rows += places.length;
    onProgress?.({ rows, right, total: questions.length });
  }
  return { accuracy: right / questions.length, rows: answered };
}

/** Throws `InvalidArgumentError` for no questions, for options out of range, and naming a question whose prompt does not fit. */
export function requireAskable(
  model: LanguageModel,
  questions: readonly Question[],
  { kind: _, batch = 16, onProgress: __, ...options }: ResponseOptions,
): void {
  if (questions.length === 0) throw new InvalidArgumentError('answers: there are no rows to answer; expected at least one');
  if (!Number.isInteger(batch) || batch < 1) throw new InvalidArgumentError(`answers: batch must be a positive integer; got ${batch}`);
  const { adapters } = settingsOf(model, options);
  for (const question of questions) {
    try {
      promptIds(model, promptOf(model, question), adapters);
    } catch (cause) {
      if (!(cause instanceof InvalidArgumentError)) throw cause;
      throw new InvalidArgumentError(`answers: ${question.where} cannot be asked; ${cause.message}`, { cause });
    }
  }
}

/** Places of questions that are generated together: in order, those of one task after those of another. */
function batchesOf(questions: readonly Question[], batch: number): number[][] {
  const byTask = new Map<Question['task'], number[]>();
  for (const [place, { task }] of questions.entries()) {
    const places = byTask.get(task) ?? [];
    byTask.set(task, places);
    places.push(place);
  }
  return [...byTask.values()].flatMap((places) =>
    Array.from({ length: Math.ceil(places.length / batch) }, (_, index) => places.slice(index * batch, (index + 1) * batch)),
  );
}

const promptOf = ({ tokenizer }: LanguageModel, { prompt, tools }: Question): Prompt =>
  tools === undefined || typeof prompt === 'string' ? prompt : tokenizer.encodeChat(prompt, { addGenerationPrompt: true, tools });
