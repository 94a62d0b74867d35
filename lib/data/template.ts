import { ConfigError } from '../errors.js';
import type { Row } from './row.js';

/** The text that a field name or template gives for a row. */
export type TextOf = (row: Row) => string;

/**
 * Compiles a field name (`question`) or a template (`Question: {question}`; `{{` and `}}` stand for braces) into a function of rows.
 * `read` gives the text of one field.
 */
export function compileText(source: string, read: (row: Row, field: string) => string): TextOf {
  if (!/[{}]/.test(source)) return (row) => read(row, source);
  const parts: (string | { field: string })[] = [];
  let last = 0;
  for (const match of source.matchAll(/\{\{|\}\}|\{([^{}]*)\}|[{}]/g)) {
    parts.push(source.slice(last, match.index));
    last = match.index + match[0].length;
    const field = match[1]?.trim();
    if (field) parts.push({ field });
    else if (match[0] === '{{' || match[0] === '}}') parts.push(match[0][0] as string);
    else
      throw new ConfigError(`data: template ${JSON.stringify(source)} has a stray "${match[0]}"; write {field}, or {{ and }} for braces`);
  }
  parts.push(source.slice(last));
  return (row) => parts.map((part) => (typeof part === 'string' ? part : read(row, part.field))).join('');
}
