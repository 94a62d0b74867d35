import { ConfigError, didYouMean, FormatError } from '../errors.js';
import type { Row } from './row.js';
import { compileText, type TextOf } from './template.js';

/** One turn of a conversation, as chat templates take it. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string;
  readonly [key: string]: unknown;
}

/** What a row means for training: a document, a prompt with the completion to learn, or a conversation whose assistant turns are learnt. */
export type Example =
  | { readonly kind: 'text'; readonly text: string; readonly where: string }
  | {
      readonly kind: 'completion';
      readonly prompt: string;
      readonly completion: string;
      /** The completion with every one of `labels` in place of the row's, in the order of `labels`; absent without `labels`. */
      readonly choices?: readonly string[];
      readonly where: string;
    }
  | { readonly kind: 'chat'; readonly messages: readonly ChatMessage[]; readonly where: string };

/** Which fields of a row make the example. At most one of `field`, `messages` and `prompt` + `completion`; default `field: 'text'`. */
export interface ExampleFields {
  /** Name of the field that holds the document. */
  readonly field?: string;
  /** Name of the field that holds a list of `{ role, content }`. */
  readonly messages?: string;
  /** A field name, or a template such as `'Question: {text}\nType:'` (`{{` and `}}` stand for braces). */
  readonly prompt?: string;
  /** A field name, or a template such as `' {label}'`. */
  readonly completion?: string;
  /** Words for the numbers 0, 1, … of the fields that `completion` names. */
  readonly labels?: readonly string[];
}

/** A function from rows to examples. Throws `ConfigError` for contradicting fields; the function throws `FormatError` naming the row. */
export function exampleOf(fields: ExampleFields): (row: Row) => Example {
  const { field, messages, prompt, completion, labels } = fields;
  const kinds = [
    ['field', field],
    ['messages', messages],
    ['prompt', prompt ?? completion],
  ].filter(([, value]) => value !== undefined);
  if (kinds.length > 1) throw new ConfigError(`data: "${kinds[0]?.[0]}" and "${kinds[1]?.[0]}" exclude each other; got both, expected one`);
  if ((prompt === undefined) !== (completion === undefined)) {
    throw new ConfigError(`data: "prompt" and "completion" belong together; got only "${prompt === undefined ? 'completion' : 'prompt'}"`);
  }
  if (labels !== undefined && completion === undefined) throw new ConfigError('data: "labels" needs "prompt" and "completion"');
  if (labels?.length === 0) throw new ConfigError('data: "labels" is empty; expected at least one name');

  if (messages !== undefined) return (row) => chatExample(fieldOf(row, messages), messages, row.where);
  if (prompt !== undefined && completion !== undefined) {
    const promptOf = compileText(prompt, (row, name) => textOf(fieldOf(row, name), name, row.where));
    return labels === undefined ? plainCompletion(promptOf, completion) : labelledCompletion(promptOf, completion, labels);
  }
  const name = field ?? 'text';
  return (row) => {
    const value = fieldOf(row, name);
    if (Array.isArray(value)) return chatExample(value, name, row.where);
    return { kind: 'text', text: textOf(value, name, row.where), where: row.where };
  };
}

function plainCompletion(promptOf: TextOf, completion: string): (row: Row) => Example {
  const completionOf = compileText(completion, (row, name) => textOf(fieldOf(row, name), name, row.where));
  return (row) => ({ kind: 'completion', prompt: promptOf(row), completion: completionOf(row), where: row.where });
}

function labelledCompletion(promptOf: TextOf, completion: string, labels: readonly string[]): (row: Row) => Example {
  const completionOf = compileText(completion, (row, name) => labelOf(fieldOf(row, name), labels, name, row.where));
  const choicesOf = labels.map((label) => compileText(completion, () => label));
  return (row) => ({
    kind: 'completion',
    prompt: promptOf(row),
    completion: completionOf(row),
    choices: choicesOf.map((choiceOf) => choiceOf(row)),
    where: row.where,
  });
}

function fieldOf(row: Row, name: string): unknown {
  const value = row.value[name];
  if (value !== undefined && value !== null && Object.hasOwn(row.value, name)) return value;
  const names = Object.keys(row.value);
  const got = names.length === 0 ? 'no fields' : `fields ${names.map((key) => `"${key}"`).join(', ')}`;
  const problem = value === null ? `field "${name}" is null` : `no field "${name}"`;
  throw new FormatError(`${row.where}: ${problem}; got ${got}${value === null ? '' : didYouMean(name, names)}`);
}

function textOf(value: unknown, name: string, where: string): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint') return String(value);
  throw new FormatError(`${where}: field "${name}" is not text; got ${Array.isArray(value) ? 'an array' : `an ${typeof value}`}`);
}

/** The word for a label: index 3 (or "3", as CSV gives it) is `labels[3]`; a value that is one of the words stays as it is. */
function labelOf(value: unknown, labels: readonly string[], name: string, where: string): string {
  if (typeof value === 'string' && labels.includes(value)) return value;
  const index = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  const label = typeof index === 'number' ? labels[index] : undefined;
  if (label !== undefined) return label;
  throw new FormatError(
    `${where}: field "${name}" is no label; got ${JSON.stringify(value)}, expected 0 to ${labels.length - 1} or one of ${labels.join(', ')}`,
  );
}

function chatExample(value: unknown, name: string, where: string): Example {
  if (!Array.isArray(value) || value.length === 0)
    throw new FormatError(`${where}: field "${name}" must be a list of messages; got ${JSON.stringify(value)?.slice(0, 60)}`);
  const messages = value.map((message: unknown, index): ChatMessage => {
    if (typeof message === 'object' && message !== null && 'role' in message && 'content' in message) {
      const { role, content } = message;
      if (typeof role === 'string' && typeof content === 'string') return { ...message, role, content };
    }
    throw new FormatError(
      `${where}: message ${index + 1} must have text "role" and "content"; got ${JSON.stringify(message)?.slice(0, 60)}`,
    );
  });
  return { kind: 'chat', messages, where };
}
