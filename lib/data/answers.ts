import { FormatError } from '../errors.js';
import type { Instruction } from './instructions.js';

export const kAnswerKinds = ['number', 'letter', 'first-letter', 'truth', 'solution', 'answer', 'ending', 'option'] as const;

/**
 * How the answer is found in a response. `number`: the last number. `letter`: the last of A to E; `first-letter`: the first one, the published rule, which takes the
 * A of "Answer: B". The others: the first word of a kind, `true` or `false`, `solution1` or `solution2`, `answer1` to `answer5`, `ending1` to `ending4`, `option1` or
 * `option2`.
 */
export type AnswerKind = (typeof kAnswerKinds)[number];

/** The rule of each collection that LLM-Adapters is measured on. */
export const answerKinds: Readonly<Record<string, AnswerKind>> = {
  AddSub: 'number',
  MultiArith: 'number',
  SingleEq: 'number',
  SVAMP: 'number',
  gsm8k: 'number',
  mawps: 'number',
  AQuA: 'letter',
  boolq: 'truth',
  piqa: 'solution',
  social_i_qa: 'answer',
  'arc-easy': 'answer',
  'arc-challenge': 'answer',
  openbookqa: 'answer',
  hellaswag: 'ending',
  winogrande: 'option',
};

/** Two numbers are the same answer when they are no farther apart. */
const kTolerance = 0.001;

const words: Readonly<Record<Exclude<AnswerKind, 'number' | 'letter'>, RegExp>> = {
  'first-letter': /[A-E]/,
  truth: /true|false/,
  solution: /solution[12]/,
  answer: /answer[1-5]/,
  ending: /ending[1-4]/,
  option: /option[12]/,
};

/** The answers that there are of each kind, for messages. */
const expected: Readonly<Record<Exclude<AnswerKind, 'number'>, string>> = {
  letter: 'a letter from "A" to "E"',
  'first-letter': 'a letter from "A" to "E"',
  truth: '"true" or "false"',
  solution: '"solution1" or "solution2"',
  answer: '"answer1" to "answer5"',
  ending: '"ending1" to "ending4"',
  option: '"option1" or "option2"',
};

/** The last number of a text, commas left out; infinity where there is none. */
export function lastNumber(text: string): number {
  const found = text.replaceAll(',', '').match(/-?\d+\.?\d*/g);
  return found === null ? Number.POSITIVE_INFINITY : Number(found.at(-1));
}

/** The answer in a response by a rule; undefined where there is none. */
export function answerIn(response: string, kind: AnswerKind): string | number | undefined {
  if (kind === 'number') return lastNumber(response);
  if (kind === 'letter') return response.match(/[A-E]/g)?.at(-1);
  return words[kind].exec(response)?.[0];
}

/** Whether a response has the answer of a row. Throws `FormatError` naming the row whose answer is missing, or none of its kind. */
export function isAnswered(response: string, { answer }: Instruction, kind: AnswerKind, index: number): boolean {
  if (answer === undefined) throw new FormatError(`answers: row ${index} has no "answer" to compare with`);
  return isRight(response, answer, kind, `answers: "answer" of row ${index}`);
}

/** Whether a response has this answer; `what` is how the answer is called in the `FormatError` that no response of this kind can have it. */
export function isRight(response: string, answer: string | number, kind: AnswerKind, what: string): boolean {
  const found = answerIn(response, kind);
  if (kind !== 'number') {
    if (answerIn(String(answer), kind) !== answer)
      throw new FormatError(`${what} is no answer of kind "${kind}"; got ${JSON.stringify(answer)}, expected ${expected[kind]}`);
    return found === answer;
  }
  const label = typeof answer === 'string' && answer.trim() === '' ? Number.NaN : Number(answer);
  if (Number.isNaN(label))
    throw new FormatError(`${what} is no number; got ${JSON.stringify(answer)}, expected one for answers of kind "number"`);
  return Math.abs((found as number) - label) <= kTolerance;
}
