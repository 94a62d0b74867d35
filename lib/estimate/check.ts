import { kDtypeBytes } from '../dtype.js';
import { OutOfMemoryError } from '../errors.js';
import { formatBytes } from '../format.js';
import { gradientNorm } from '../optim/index.js';
import { memory, resetPeakMemory, scope, setMemoryLimit, synchronize } from '../scope.js';
import { taskOf } from '../tasks/registry.js';
import type { TaskBatch } from '../tasks/task.js';
import type { DType } from '../tensor.js';
import { objectiveOf } from '../train/objective.js';
import { createOptimizer } from '../train/optimizer.js';
import type { TrainingSettings } from '../train/options.js';
import { type AnyTrainable, drawState, resetGradients, setDrawState, trainableOf } from '../train/trainable.js';
import { availableMemory } from './available.js';
import { activationBound } from './bound.js';

/** What a run still has to take, and what there is. */
export interface MemoryNeed {
  readonly gradients: number;
  readonly optimizer: number;
  readonly activations: number;
  readonly total: number;
  readonly available: number;
}

/**
 * Says no to a run that does not fit, before its first step. Shapes alone decide where they leave no doubt, which costs nothing; else one and two rows go
 * through the model. With `warn` the message is a warning of the process, with `ignore` nothing is looked at.
 *
 * Throws `OutOfMemoryError` with the parts and what helps. `room` is what can still be taken, for tests.
 */
export async function checkMemory(model: AnyTrainable, settings: TrainingSettings, longest: number, room = freeMemory()): Promise<void> {
  if (settings.memory === 'ignore') return;
  const bound = upperBound(model, settings, longest, room);
  if (bound.total <= room || taskOf(model, settings.loss).trial({ rows: 1, length: longest }) === undefined) return;
  const need = await measured(model, settings, longest, room);
  if (need.total <= room) return;
  const message = describe(need, settings, model.dtype);
  if (settings.memory === 'error') throw new OutOfMemoryError(`train: ${message}; training.memory: warn starts all the same`);
  process.emitWarning(message, 'LorikeetWarning');
}

/** What can still be taken from the system, and from the limit of the engine where there is one. */
export function freeMemory(): number {
  const { bytes, cachedBytes, limitBytes } = memory();
  const free = availableMemory() + cachedBytes;
  return limitBytes === 0 ? free : Math.min(free, limitBytes - bytes);
}

function upperBound(model: AnyTrainable, settings: TrainingSettings, length: number, available: number): MemoryNeed {
  const { batch: rows, checkpointing } = settings;
  const width = Math.max(4, kDtypeBytes[model.dtype]);
  // The first backward packs frozen weights once more.
  const activations = activationBound(model.network, { rows, length, checkpointing, width }) + memory().bytes;
  return needOf(model, settings, activations, available);
}

function needOf(model: AnyTrainable, settings: TrainingSettings, activations: number, available: number): MemoryNeed {
  const gradients = [...trainableOf(model).values()].reduce((sum, { size, dtype }) => sum + size * kDtypeBytes[dtype], 0);
  const optimizer = createOptimizer(model, settings).stateBytes;
  return { gradients, optimizer, activations, total: gradients + optimizer + activations, available };
}

/** Runs one row and two, and draws a line to the whole batch. The model is as before. */
async function measured(model: AnyTrainable, settings: TrainingSettings, length: number, available: number): Promise<MemoryNeed> {
  await synchronize();
  const { limitBytes, bytes } = memory();
  setMemoryLimit(bytes + Math.floor(available));
  const { batch } = settings;
  try {
    // The first backward packs weights for good.
    await peakOf(model, settings, 1, length);
    await synchronize();
    const grown = Math.max(0, memory().bytes - bytes);
    const one = await peakOf(model, settings, 1, length);
    const two = batch === 1 ? one : await peakOf(model, settings, 2, length);
    return needOf(model, settings, grown + one + Math.max(0, two - one) * (batch - 1), available);
  } catch (error) {
    if (!(error instanceof OutOfMemoryError)) throw error;
    return upperBound(model, settings, length, available);
  } finally {
    setMemoryLimit(limitBytes);
  }
}

async function peakOf(model: AnyTrainable, { checkpointing, loss }: TrainingSettings, rows: number, length: number): Promise<number> {
  const draws = drawState(model);
  const batch = taskOf(model, loss).trial({ rows, length }) as TaskBatch;
  // What was disposed before is released in the order of the queue.
  await synchronize();
  const before = memory().bytes;
  resetPeakMemory();
  try {
    await scope(async () => {
      objectiveOf(model)(batch, { training: true, checkpointing }).backward();
      // Work that found no memory fails where its result is read.
      await gradientNorm([...trainableOf(model).values()]).item();
    });
    return memory().peakBytes - before;
  } finally {
    resetGradients(model);
    setDrawState(model, draws);
  }
}

function describe({ gradients, optimizer, activations, total, available }: MemoryNeed, settings: TrainingSettings, dtype: DType): string {
  const { batch, checkpointing, sequence } = settings;
  const helps = [
    ...(batch > 1 ? [`training.batch below ${batch} with more training.accumulate`] : []),
    ...(checkpointing ? [] : ['training.checkpointing: true']),
    `training.sequence below ${sequence}`,
    ...(kDtypeBytes[dtype] > kDtypeBytes.bf16 ? ['dtype or compute: bf16'] : []),
  ];
  return (
    `not enough memory; the run needs about ${formatBytes(Math.round(total))} beside the model (activations ${formatBytes(Math.round(activations))}, ` +
    `gradients ${formatBytes(gradients)}, optimizer ${formatBytes(optimizer)}), ${formatBytes(Math.max(0, Math.floor(available)))} is available; what helps: ${helps.join(', ')}`
  );
}
