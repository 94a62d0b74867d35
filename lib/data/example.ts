import { ConfigError, FormatError } from '../errors.js';
import type { TaskId } from '../nn/context.js';
import { chatMessages, rowTools } from './messages.js';
import { describeValue, fieldOf, type Row } from './row.js';
import { rowTask } from './row-task.js';
import { refuseTaskFields, type TaskFields } from './task-fields.js';
import { compileText, type TextOf } from './template.js';

/** One turn of a conversation, as chat templates take it: text, or the calls of tools in `tool_calls`, or both. */
export interface ChatMessage {
  readonly role: string;
  readonly content?: string | null;
  readonly [key: string]: unknown;
}

/** What a row means for training: a document, a prompt with the completion to learn, or a conversation whose assistant turns are learnt. */
export type Example = ExampleKind & {
  /** The task that the row is of, where the source says. */
  readonly task?: TaskId;
};

type ExampleKind =
  | { readonly kind: 'text'; readonly text: string; readonly where: string }
  | {
      readonly kind: 'completion';
      readonly prompt: string;
      readonly completion: string;
      /** The completion with every one of `labels` in place of the row's, in the order of `labels`; absent without `labels`. */
      readonly choices?: readonly string[];
      readonly where: string;
    }
  | {
      readonly kind: 'chat';
      readonly messages: readonly ChatMessage[];
      /** Descriptions of the tools that the assistant may call, for the chat template. */
      readonly tools?: readonly unknown[];
      /** Which assistant turns are learnt; default all. */
      readonly learn?: 'all' | 'last';
      readonly where: string;
    };

/** Which fields of a row make the example. At most one of `field`, `messages` and `prompt` + `completion`; default `field: 'text'`. */
export interface ExampleFields {
  /** Name of the field that holds the document. */
  readonly field?: string;
  /** Name of the field that holds a list of `{ role, content }`; text parts of a content are joined. A JSON text of the list does as well. */
  readonly messages?: string;
  /** With `messages`: name of the field that lists the tools of a row as JSON schemas; `null` and `[]` are a row without tools. */
  readonly tools?: string;
  /** With `messages`: which assistant turns are learnt. Default `'all'`. */
  readonly learn?: 'all' | 'last';
  /** A field name, or a template such as `'Question: {text}\nType:'` (`{{` and `}}` stand for braces). */
  readonly prompt?: string;
  /** A field name, or a template such as `' {label}'`. */
  readonly completion?: string;
  /** Words for the numbers 0, 1, … of the fields that `completion` (of a task: `label` or `tags`) names. */
  readonly labels?: readonly string[];
  /** For adapters that are routed by task: the task of all rows, or the name of the field that holds its number. */
  readonly task?: TaskId | string;
}

/** A function from rows to examples. Throws `ConfigError` for contradicting fields; the function throws `FormatError` naming the row. */
export function exampleOf(fields: ExampleFields & TaskFields): (row: Row) => Example {
  refuseTaskFields(fields);
  const plain = untasked(fields);
  const read = rowTask(fields.task);
  return (row) => ({ ...plain(row), ...read(row) });
}

function untasked(fields: ExampleFields): (row: Row) => ExampleKind {
  const { field, messages, prompt, completion, labels, tools, learn } = fields;
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

  for (const [name, value] of Object.entries({ tools, learn }))
    if (value !== undefined && messages === undefined) throw new ConfigError(`data: "${name}" needs "messages"`);

  if (messages !== undefined) {
    const toolsOf = tools === undefined ? () => undefined : (row: Row) => rowTools(row, tools);
    return (row) => {
      const found = toolsOf(row);
      const turns = chatMessages(fieldOf(row, messages), messages, row.where);
      return {
        kind: 'chat',
        messages: turns,
        where: row.where,
        ...(found === undefined ? {} : { tools: found }),
        ...(learn === undefined ? {} : { learn }),
      };
    };
  }
  if (prompt !== undefined && completion !== undefined) {
    const promptOf = compileText(prompt, (row, name) => textOf(fieldOf(row, name), name, row.where));
    return labels === undefined ? plainCompletion(promptOf, completion) : labelledCompletion(promptOf, completion, labels);
  }
  const name = field ?? 'text';
  return (row) => {
    const value = fieldOf(row, name);
    if (Array.isArray(value)) return { kind: 'chat', messages: chatMessages(value, name, row.where), where: row.where };
    return { kind: 'text', text: textOf(value, name, row.where), where: row.where };
  };
}

function plainCompletion(promptOf: TextOf, completion: string): (row: Row) => ExampleKind {
  const completionOf = compileText(completion, (row, name) => textOf(fieldOf(row, name), name, row.where));
  return (row) => ({ kind: 'completion', prompt: promptOf(row), completion: completionOf(row), where: row.where });
}

function labelledCompletion(promptOf: TextOf, completion: string, labels: readonly string[]): (row: Row) => ExampleKind {
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

export function textOf(value: unknown, name: string, where: string): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint') return String(value);
  const [kind, advice] = Array.isArray(value) ? ['an array', `; for a conversation use \`messages: ${name}\``] : [`an ${typeof value}`, ''];
  throw new FormatError(`${where}: field "${name}" is not text; got ${kind}, expected text, a number or a boolean${advice}`);
}

/** The word for a label: index 3 (or "3", as CSV gives it) is `labels[3]`; a value that is one of the words stays as it is. */
function labelOf(value: unknown, labels: readonly string[], name: string, where: string): string {
  if (typeof value === 'string' && labels.includes(value)) return value;
  const index = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  const label = typeof index === 'number' ? labels[index] : undefined;
  if (label !== undefined) return label;
  throw new FormatError(
    `${where}: field "${name}" is no label; got ${describeValue(value)}, expected 0 to ${labels.length - 1} or one of ${labels.join(', ')}`,
  );
}
