import { FormatError } from '../errors.js';
import type { ChatMessage } from './example.js';
import { fieldOf, type Row } from './row.js';

/** A value in an error message: its JSON, cut. */
export function shown(value: unknown): string {
  try {
    const text = JSON.stringify(value) ?? String(value);
    return text.length > 60 ? `${text.slice(0, 60)}…` : text;
  } catch {
    return 'a value too deep to show';
  }
}

/** A list, or the JSON text of one, as tables hold it. */
function listOf(value: unknown): readonly unknown[] | undefined {
  if (Array.isArray(value)) return value;
  if (typeof value !== 'string' || !value.trimStart().startsWith('[')) return undefined;
  try {
    const parsed: unknown = JSON.parse(value);
    return Array.isArray(parsed) ? parsed : undefined;
  } catch {
    return undefined;
  }
}

/** The turns of a conversation, each with its text as one string. Throws `FormatError` naming row and message. */
export function chatMessages(value: unknown, name: string, where: string): ChatMessage[] {
  const list = listOf(value);
  if (list === undefined || list.length === 0)
    throw new FormatError(`${where}: field "${name}" must be a list of messages; got ${shown(value)}`);
  return list.map((message, index) => chatMessage(message, `${where}: message ${index + 1}`));
}

function chatMessage(message: unknown, where: string): ChatMessage {
  if (typeof message === 'object' && message !== null && 'role' in message && typeof message.role === 'string') {
    const { role } = message;
    const { content, tool_calls: calls } = message as { content?: unknown; tool_calls?: unknown };
    if (typeof content === 'string') return { ...message, role, content };
    if (Array.isArray(content)) return { ...message, role, content: joinedParts(content, where) };
    // An assistant that only calls tools has nothing to say.
    if ((content === undefined || content === null) && Array.isArray(calls) && calls.length > 0) return { ...message, role, content: '' };
  }
  throw new FormatError(`${where} must have text "role" and "content", or "tool_calls"; got ${shown(message)}`);
}

/** The text of `[{ type: 'text', text }, ...]`. */
function joinedParts(parts: readonly unknown[], where: string): string {
  return parts
    .map((part) => {
      if (typeof part === 'string') return part;
      const { type = 'text', text } = (part ?? {}) as { type?: unknown; text?: unknown };
      if (type === 'text' && typeof text === 'string') return text;
      throw new FormatError(`${where} has a part that is not text; got ${shown(part)}, expected { type: "text", text }`);
    })
    .join('');
}

/** The tools of a row; undefined where it has none. */
export function rowTools(row: Row, name: string): readonly unknown[] | undefined {
  if (Object.hasOwn(row.value, name) && row.value[name] === null) return undefined;
  const value = fieldOf(row, name);
  const list = listOf(value);
  if (list === undefined) throw new FormatError(`${row.where}: field "${name}" must be a list of tools, or null; got ${shown(value)}`);
  return list.length === 0 ? undefined : list;
}
