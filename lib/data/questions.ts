import { ConfigError, FormatError } from '../errors.js';
import type { TaskId } from '../nn/context.js';
import { type AnswerKind, isRight } from './answers.js';
import { type ChatMessage, type Example, exampleOf } from './example.js';
import { describeValue, fieldOf, type Row } from './row.js';
import { type DataSource, type DataSources, sourceList, sourceName, sourceRows } from './source.js';

/** What a row asks, and the answer that a response to it is scored against. */
export interface Question {
  /** The text in front of a completion, or what comes before the last turn of the assistant. */
  readonly prompt: string | readonly ChatMessage[];
  /** Of a conversation: the tools that its template writes out. */
  readonly tools?: readonly unknown[];
  readonly answer: string | number;
  /** Where it is from, such as `notes.jsonl:17`. */
  readonly where: string;
  readonly task?: TaskId;
}

export interface QuestionOptions {
  readonly kind: AnswerKind;
  /** Field of the answer. */
  readonly field: string;
  /** The first so many rows; undefined: all. */
  readonly rows?: number | undefined;
  /** Rows that cannot be parsed, or whose answer cannot be compared: an error (default), or left out. */
  readonly badRows?: 'error' | 'skip' | undefined;
}

/** Throws `ConfigError` for a source whose rows are texts, which ask nothing. */
export function requireQuestions(sources: DataSources): void {
  const texts = sourceList(sources).find(({ prompt, messages }) => prompt === undefined && messages === undefined);
  if (texts === undefined) return;
  throw new ConfigError(
    `answers: rows of "${sourceName(texts)}" ask nothing; got a source of texts, expected "prompt" and "completion", or "messages"`,
  );
}

/** The questions of all sources, in order. Throws `ConfigError` as `requireQuestions`, `FormatError` naming the row. */
export async function readQuestions(sources: DataSources, options: QuestionOptions): Promise<Question[]> {
  requireQuestions(sources);
  const questions: Question[] = [];
  const { rows: limit = Number.POSITIVE_INFINITY } = options;
  for (const source of sourceList(sources)) {
    const read = questionOf(source, options);
    for await (const row of sourceRows(source)) {
      if (questions.length >= limit) return questions;
      try {
        questions.push(read(row.parse()));
      } catch (error) {
        if (!(options.badRows === 'skip' && error instanceof FormatError)) throw error;
      }
    }
  }
  return questions;
}

function questionOf(source: DataSource, { kind, field }: QuestionOptions): (row: Row) => Question {
  const toExample = exampleOf(source);
  return (row) => {
    const { where } = row;
    const example = toExample(row);
    const answer = answerOf(fieldOf(row, field), field, where);
    // An answer that cannot be compared shows before anything is generated.
    isRight('', answer, kind, `${where}: field "${field}"`);
    return { ...promptOf(example), answer, where, ...(example.task === undefined ? {} : { task: example.task }) };
  };
}

function promptOf(example: Example): Pick<Question, 'prompt' | 'tools'> {
  if (example.kind === 'completion') return { prompt: example.prompt };
  if (example.kind === 'text') return { prompt: example.text };
  const { messages, tools, where } = example;
  const last = messages.findLastIndex(({ role }) => role === 'assistant');
  const prompt = last < 0 ? messages : messages.slice(0, last);
  if (prompt.length === 0) throw new FormatError(`${where}: the conversation asks nothing; its first turn is the answer`);
  return { prompt, ...(tools === undefined ? {} : { tools }) };
}

function answerOf(value: unknown, field: string, where: string): string | number {
  if (typeof value === 'string' || typeof value === 'number') return value;
  if (typeof value === 'boolean') return String(value);
  if (typeof value === 'bigint') return Number(value);
  throw new FormatError(`${where}: field "${field}" is no answer; got ${describeValue(value)}, expected text, a number or a boolean`);
}
