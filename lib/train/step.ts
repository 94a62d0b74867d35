import { setImmediate } from 'node:timers/promises';
import { type Batch, collate, inputOf } from '../data/batch.js';
import type { Sequence } from '../data/encode.js';
import { throwIfAborted } from '../errors.js';
import type { LanguageModel } from '../model.js';
import { mul } from '../ops/elementwise.js';
import { gradientNorm } from '../optim/index.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';

export interface StepInput {
  /** All rows of the step. */
  readonly rows: readonly Sequence[];
  /** Rows of one forward pass. */
  readonly batch: number;
  readonly checkpointing: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface StepGradients {
  readonly loss: number;
  /** Global norm of the gradient. */
  readonly gradNorm: number;
  readonly tokens: number;
}

/**
 * Leaves the gradient of one optimizer step on the parameters: that of the sum of all token losses divided by the number of targets of the whole
 * step, however its rows are cut into batches.
 * Loss and norm may be not finite: what to do then is the caller's to decide. Throws `CancelledError` between batches when the signal has fired.
 */
export async function stepGradients(
  model: Pick<LanguageModel, 'loss'>,
  parameters: readonly Tensor[],
  input: StepInput,
): Promise<StepGradients> {
  const batches: Batch[] = [];
  for (let start = 0; start < input.rows.length; start += input.batch) batches.push(collate(input.rows.slice(start, start + input.batch)));
  const targets = batches.reduce((sum, { targetCount }) => sum + targetCount, 0);
  const tokens = batches.reduce((sum, batch) => sum + batch.tokens, 0);
  let loss = 0;
  for (const batch of batches) {
    throwIfAborted(input.signal, 'train');
    loss += await batchGradients(model, batch, targets, input.checkpointing);
  }
  const gradNorm = await scope(() => gradientNorm(parameters).item());
  return { loss, gradNorm, tokens };
}

/** Adds the gradient of one batch; returns its part of the step's loss. The event loop turns between forward and backward. */
function batchGradients(model: Pick<LanguageModel, 'loss'>, batch: Batch, total: number, checkpointing: boolean): Promise<number> {
  return scope(async () => {
    const loss = mul(model.loss({ ...inputOf(batch), reduction: 'sum', training: true, checkpointing }), 1 / total);
    await setImmediate();
    loss.backward();
    await setImmediate();
    return loss.item();
  });
}
