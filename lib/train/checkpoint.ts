import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { didYouMean, FormatError } from '../errors.js';
import { writeFileAtomically } from '../io/atomic-file.js';
import { isJsonObject, type JsonObject, readJsonObject } from '../io/json.js';
import { loadSafetensors, saveSafetensors } from '../io/safetensors.js';
import { copyInto } from '../ops/shape.js';
import type { OptimizerState } from '../optim/index.js';
import { disposeTensors, noGrad, synchronize } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { type DrawState, drawState, setDrawState, type TrainableModel } from './trainable.js';

/** What a checkpoint is taken of. */
export interface StateParts {
  readonly model: Pick<TrainableModel, 'namedParameters' | 'save' | 'active' | 'adapters'>;
  readonly optimizer: { state(): OptimizerState; loadState(state: OptimizerState): void };
}

const kFormat = 1;

/**
 * Writes the whole state of a training into a folder: every parameter to train (`parameters.safetensors`, and as a PEFT folder `adapter/`), the optimizer's
 * (`optimizer.safetensors`), where the random numbers stand, and `progress`, which is whatever JSON the caller needs to go on: step, learning rate, place in
 * the data. Write into a temporary folder and rename it where the folder must appear complete or not at all; `train` does.
 *
 * @example
 * await saveState('checkpoint', { model: tuned, optimizer }, { step });
 */
export async function saveState(folder: string, { model, optimizer }: StateParts, progress: JsonObject = {}): Promise<void> {
  await mkdir(folder, { recursive: true });
  const { tensors, ...numbers } = optimizer.state();
  try {
    await saveSafetensors(join(folder, 'parameters.safetensors'), new Map(model.namedParameters()));
    await saveSafetensors(join(folder, 'optimizer.safetensors'), tensors);
  } finally {
    disposeTensors(Object.values(tensors));
  }
  await model.save(join(folder, 'adapter'));
  const state = { format: kFormat, progress, optimizer: numbers, random: drawState(model) };
  await writeFileAtomically(join(folder, 'state.json'), `${JSON.stringify(state, undefined, 2)}\n`);
}

/**
 * Puts a state written by `saveState` back into a model and optimizer of the same shape, bit for bit; returns its `progress`.
 *
 * Throws `FormatError` when the folder is broken or belongs to another adapter or optimizer; the parameters are then as before.
 */
export async function restoreState(folder: string, { model, optimizer }: StateParts): Promise<JsonObject> {
  const { progress, numbers, random } = await readNumbers(folder);
  const parameters = await loadSafetensors(join(folder, 'parameters.safetensors'));
  const tensors = await loadSafetensors(join(folder, 'optimizer.safetensors'));
  try {
    const slots = new Map(model.namedParameters());
    requireSame(join(folder, 'parameters.safetensors'), parameters, slots);
    optimizer.loadState({ ...numbers, tensors: Object.fromEntries(tensors) } as unknown as OptimizerState);
    noGrad(() => {
      for (const [name, slot] of slots) copyInto(slot, parameters.get(name) as Tensor);
    });
    setDrawState(model, random as unknown as DrawState);
    // The stored tensors lie in files that may be removed: they are read before this returns.
    await synchronize();
  } finally {
    disposeTensors(parameters.values());
    disposeTensors(tensors.values());
  }
  return progress;
}

/** The `progress` of a checkpoint; nothing is restored. Throws `FormatError`. */
export async function readProgress(folder: string): Promise<JsonObject> {
  return (await readNumbers(folder)).progress;
}

async function readNumbers(folder: string): Promise<{ progress: JsonObject; numbers: JsonObject; random: JsonObject }> {
  const file = join(folder, 'state.json');
  const { format, progress, optimizer, random } = await readJsonObject(file);
  if (format !== kFormat)
    throw new FormatError(`${file}: unknown format of checkpoint; got ${JSON.stringify(format)}, expected ${kFormat}`);
  if (!isJsonObject(progress) || !isJsonObject(optimizer) || !isJsonObject(random))
    throw new FormatError(`${file}: "progress", "optimizer" or "random" is missing`);
  return { progress, numbers: optimizer, random };
}

function requireSame(file: string, stored: ReadonlyMap<string, Tensor>, slots: ReadonlyMap<string, Tensor>): void {
  for (const [name, slot] of slots) {
    const value = stored.get(name);
    if (value === undefined)
      throw new FormatError(
        `${file}: parameter "${name}" is missing${didYouMean(name, stored.keys())}; the checkpoint is of another adapter`,
      );
    if (String(value.shape) !== String(slot.shape) || value.dtype !== slot.dtype) {
      throw new FormatError(
        `${file}: parameter "${name}" differs; got ${value.dtype} [${value.shape.join(', ')}], expected ${slot.dtype} [${slot.shape.join(', ')}]`,
      );
    }
  }
  for (const name of stored.keys())
    if (!slots.has(name)) throw new FormatError(`${file}: parameter "${name}" is not in the adapter; the checkpoint is of another one`);
}
