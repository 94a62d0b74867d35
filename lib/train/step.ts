import { setImmediate } from 'node:timers/promises';
import type { EncodedRow } from '../data/row-encoding.js';
import { throwIfAborted } from '../errors.js';
import { mul } from '../ops/elementwise.js';
import { gradientNorm } from '../optim/index.js';
import { scope } from '../scope.js';
import type { AnyTask, BatchPlace, TaskBatch } from '../tasks/task.js';
import type { Tensor } from '../tensor.js';

export interface StepInput {
  /** All rows of the step. */
  readonly rows: readonly EncodedRow[];
  /** Rows of one forward pass. */
  readonly batch: number;
  readonly checkpointing: boolean;
  /** Number of the step and seed of the run, for tasks that draw. Default: step 1 of seed 0. */
  readonly place?: Pick<BatchPlace, 'seed' | 'step'>;
  readonly signal?: AbortSignal | undefined;
}

export interface StepGradients {
  readonly loss: number;
  /** Global norm of the gradient. */
  readonly gradNorm: number;
  readonly tokens: number;
}

/**
 * Leaves the gradient of one optimizer step on the parameters: that of the sum of all losses divided by the number of targets of the whole
 * step, however its rows are cut into batches.
 * Loss and norm may be not finite: what to do then is the caller's to decide. Throws `CancelledError` between batches when the signal has fired.
 */
export async function stepGradients(
  task: Pick<AnyTask, 'batch'>,
  parameters: readonly Tensor[],
  { rows, batch: size, checkpointing, place = { seed: 0, step: 1 }, signal }: StepInput,
): Promise<StepGradients> {
  const batches: TaskBatch[] = [];
  for (let first = 0; first < rows.length; first += size) batches.push(task.batch(rows.slice(first, first + size), { ...place, first }));
  const targets = batches.reduce((sum, batch) => sum + batch.targets, 0);
  const tokens = batches.reduce((sum, batch) => sum + batch.tokens, 0);
  let loss = 0;
  for (const batch of batches) {
    throwIfAborted(signal, 'train');
    loss += await batchGradients(batch, targets, checkpointing);
  }
  const gradNorm = await scope(() => gradientNorm(parameters).item());
  return { loss, gradNorm, tokens };
}

/** Adds the gradient of one batch; returns its part of the step's loss. The event loop turns between forward and backward. */
function batchGradients(batch: TaskBatch, total: number, checkpointing: boolean): Promise<number> {
  return scope(async () => {
    const loss = mul(batch.loss({ training: true, checkpointing }), 1 / total);
    await setImmediate();
    loss.backward();
    await setImmediate();
    return loss.item();
  });
}
