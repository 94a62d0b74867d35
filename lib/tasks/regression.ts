import { describeValue, fieldOf, type Row } from '../data/row.js';
import { FormatError } from '../errors.js';
import type { TaskModel } from '../task-model.js';
import { countTokens, type EncoderRow, gather, measured, openEncoderRows, routedInputs, trialBatch } from './encoder-rows.js';
import { pearson, spearman } from './metrics.js';
import type { Task } from './task.js';

/** One value or several for every example: mean squared error, which decides; correlations of Pearson and Spearman, of several values their mean. */
export function regression(model: TaskModel): Task<EncoderRow<readonly number[]>> {
  const count = model.labels.length;
  return {
    name: 'regression',
    decides: { name: 'loss', higher: false },
    open: (sources, options) =>
      openEncoderRows(model, sources, options, ({ label = 'label' }) => (row) => ({ target: valuesIn(row, label, count) })),
    batch: (rows) => ({
      targets: rows.length * count,
      tokens: countTokens(model, rows),
      loss: (pass) => model.loss({ ...routedInputs(model, rows), targets: rows.map(({ target }) => target), reduction: 'sum', ...pass }),
    }),
    async measure(set, options = {}) {
      const answers = await gather(model, set, options, ({ target }, values) => ({ target, values: Array.from(values) }));
      const losses = answers.flatMap(({ target, values }) => target.map((value, k) => (value - (values[k] as number)) ** 2));
      return measured(set, losses, answers.length, () => {
        const meanOf = (correlation: (a: readonly number[], b: readonly number[]) => number): number => {
          const column = (k: number, part: 'target' | 'values'): number[] => answers.map((answer) => answer[part][k] as number);
          return (
            Array.from({ length: count }, (_, k) => correlation(column(k, 'values'), column(k, 'target'))).reduce((a, b) => a + b, 0) /
            count
          );
        };
        return { mse: losses.reduce((a, b) => a + b, 0) / losses.length, pearson: meanOf(pearson), spearman: meanOf(spearman) };
      });
    },
    trial: (shape) =>
      trialBatch(
        model,
        shape,
        Array.from({ length: shape.rows }, () => new Array<number>(count).fill(0)),
      ),
  };
}

/** The values of a field: a number, also as text, or a list of so many. */
function valuesIn(row: Row, name: string, count: number): number[] {
  const value = fieldOf(row, name);
  const values = (Array.isArray(value) ? value : [value]).map((entry) =>
    (typeof entry === 'string' && entry.trim() !== '') || typeof entry === 'bigint' ? Number(entry) : entry,
  );
  if (values.length === count && values.every((entry) => typeof entry === 'number' && Number.isFinite(entry))) return values;
  throw new FormatError(
    `${row.where}: field "${name}" is no value to learn; got ${describeValue(value)}, expected ${count === 1 ? 'a finite number' : `a list of ${count} finite numbers`}`,
  );
}
