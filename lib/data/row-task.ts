import { ConfigError, FormatError } from '../errors.js';
import type { TaskId } from '../nn/context.js';
import { describeValue, fieldOf, type Row } from './row.js';
import type { EncodedRow } from './row-encoding.js';

/**
 * Reads the task of a row, for adapters that are routed by task: `task` of its source is the task of all rows, or the name of the field that
 * holds its number. Throws `ConfigError` for what is neither; the function throws `FormatError` naming the row.
 */
export function rowTask(task: TaskId | string | undefined): (row: Row) => { readonly task?: TaskId } {
  if (task === undefined) return () => ({});
  if (typeof task === 'string' && task !== 'mean') return (row) => ({ task: taskIn(row, task) });
  if (task !== 'mean' && !isTask(task))
    throw new ConfigError(
      `data: "task" cannot be used; got ${describeValue(task)}, expected a whole number of at least 0, "mean" or a field`,
    );
  return () => ({ task });
}

const isTask = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** The number of a task in a field; CSV gives it as text. */
function taskIn(row: Row, name: string): number {
  const value = fieldOf(row, name);
  const task = (typeof value === 'string' && /^\d+$/.test(value)) || typeof value === 'bigint' ? Number(value) : value;
  if (isTask(task)) return task;
  throw new FormatError(`${row.where}: field "${name}" is no task; got ${describeValue(value)}, expected a whole number of at least 0`);
}

/** The task of every row of a batch; undefined where no source says. Throws `FormatError` where only some do. */
export function tasksOf(rows: readonly EncodedRow[]): TaskId[] | undefined {
  const tasks = rows.map(({ task }) => task).filter((task) => task !== undefined);
  if (tasks.length === 0) return undefined;
  const without = rows.find(({ task }) => task === undefined);
  if (without === undefined) return tasks;
  throw new FormatError(`${without.where}: the row has no task beside rows that have one; expected "task" for all sources or for none`);
}
