import { ConfigError, InvalidArgumentError, ShapeError } from '../errors.js';
import { tensor } from '../ops/create.js';
import { cast, mul, sub } from '../ops/elementwise.js';
import { logitsCrossEntropy, type Reduction } from '../ops/loss.js';
import { mean, sum } from '../ops/reduce.js';
import type { DType, Tensor } from '../tensor.js';
import type { EncoderTask } from './encoder.js';
import { ignoredTarget } from './language-loss.js';

/**
 * What an encoder should answer, row by row. `classification`: the number of the class; `regression`: the values; `token-classification` and `masked-lm`: a number for
 * every token, -100 where nothing is to be learnt. A single value of a regression needs no list.
 */
export type TaskTargets = readonly number[] | readonly (readonly number[])[];

/** Losses are computed in f32 at least. */
export const wide = (x: Tensor): Tensor => (x.dtype === 'bf16' || x.dtype === 'f16' ? cast(x, 'f32') : x);

/** The loss of what an encoder answered: cross-entropy over classes or words, or squared error. In f32 (f64 for an f64 model). */
export function taskLoss(task: EncoderTask, answer: Tensor, targets: TaskTargets, reduction: Reduction): Tensor {
  const output = wide(answer);
  switch (task) {
    case 'classification':
      return logitsCrossEntropy(output, classTargets(targets, output.shape), { reduction });
    case 'token-classification':
    case 'masked-lm':
      return logitsCrossEntropy(output, tokenTargets(targets, output.shape, reduction), { reduction });
    case 'regression': {
      const error = sub(output, valueTargets(targets, output.shape, output.dtype));
      const squared = mul(error, error);
      return reduction === 'none' ? squared : reduction === 'sum' ? sum(squared) : mean(squared);
    }
    case 'embedding':
      throw new ConfigError(
        'loss: an embedding has no targets of its own; got task "embedding", expected pairs for train, or a loss of your own on forward()',
      );
    default:
      throw new ConfigError(`loss: unknown task; got ${JSON.stringify(task satisfies never)}`);
  }
}

function requireRows(targets: TaskTargets, rows: number): void {
  if (targets.length !== rows)
    throw new ShapeError(`loss: "targets" must have an entry for each row; got ${targets.length}, expected ${rows}`);
}

function requireClass(value: unknown, classes: number, where: string): bigint {
  if (value === ignoredTarget) return BigInt(ignoredTarget);
  if (!Number.isInteger(value) || (value as number) < 0 || (value as number) >= classes)
    throw new InvalidArgumentError(
      `loss: ${where} is no class; got ${value}, expected an integer from 0 to ${classes - 1}, or ${ignoredTarget}`,
    );
  return BigInt(value as number);
}

/** i64 [B]. */
function classTargets(targets: TaskTargets, [rows = 0, classes = 0]: readonly number[]): Tensor {
  requireRows(targets, rows);
  const values = BigInt64Array.from([...targets.keys()], (row) => requireClass(targets[row], classes, `target ${row}`));
  return tensor(values, { shape: [rows] });
}

/** i64 [B, T] for logits of shape [B, T, V], padded like the rows they belong to. Throws for other shapes, unknown classes, and for a mean over nothing. */
export function tokenTargets(targets: TaskTargets, [rows = 0, width = 0, classes = 0]: readonly number[], reduction: Reduction): Tensor {
  requireRows(targets, rows);
  const values = new BigInt64Array(rows * width).fill(BigInt(ignoredTarget));
  let learnt = 0;
  for (const [b, row] of targets.entries()) {
    if (!Array.isArray(row) || row.length > width)
      throw new ShapeError(
        `loss: row ${b} of "targets" must be a list with a number for each token; got ${JSON.stringify(row)?.slice(0, 40)}, expected at most ${width}`,
      );
    for (const [t, value] of row.entries()) {
      const target = requireClass(value, classes, `target ${t} of row ${b}`);
      values[b * width + t] = target;
      if (target >= 0n) learnt++;
    }
  }
  if (learnt === 0 && reduction === 'mean')
    throw new InvalidArgumentError('loss: there is no target to learn; expected at least one that is not -100');
  return tensor(values, { shape: [rows, width] });
}

/** [B, K] in the dtype of the answers. */
function valueTargets(targets: TaskTargets, [rows = 0, count = 0]: readonly number[], dtype: DType): Tensor {
  requireRows(targets, rows);
  const values = targets.flatMap((row, b) => {
    const own = typeof row === 'number' ? [row] : row;
    if (own.length !== count || own.some((value) => !Number.isFinite(value)))
      throw new ShapeError(`loss: target ${b} must have ${count} finite values; got ${JSON.stringify(row)}`);
    return own;
  });
  return tensor(values, { shape: [rows, count], dtype });
}
