import { join } from 'node:path';
import { didYouMean, FormatError } from '../errors.js';
import { makeFolder, writeFileAtomically } from '../io/atomic-file.js';
import { writing } from '../io/io-error.js';
import { isJsonObject, type JsonObject, readJsonObject } from '../io/json.js';
import { loadSafetensors, saveSafetensors } from '../io/safetensors.js';
import { copyInto } from '../ops/shape.js';
import type { OptimizerState } from '../optim/index.js';
import type { RandomScope } from '../random.js';
import { disposeTensors, noGrad, synchronize } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { checkFiles, fileChecksums, jsonChecksum } from './checksums.js';
import { requireSameTaken, saveTaken } from './taken-state.js';
import { type AnyTrainable, type DrawState, drawState, setDrawState } from './trainable.js';

/** What a checkpoint is taken of. */
export interface StateParts {
  readonly model: Pick<AnyTrainable, 'namedParameters' | 'save' | 'active' | 'adapters'>;
  readonly optimizer: { state(): OptimizerState; loadState(state: OptimizerState): void };
  /** Whose random draws are part of the state, where they are not those of this environment (thread). */
  readonly random?: RandomScope;
}

const kFormat = 2;
const kState = 'state.json';

/**
 * Writes the whole state of a training into a folder: every parameter to train (`parameters.safetensors`, and as a PEFT folder
 * `adapter/`), the optimizer's (`optimizer.safetensors`), what an adapter took out of the frozen weights (`initial/`, where one did),
 * where the random numbers stand, and `progress`, which is whatever JSON the caller needs to go on: step, learning rate, place in the
 * data. `state.json` comes last and holds the SHA-256 of every other file and of itself. Write into a temporary folder and rename it where
 * the folder must appear complete or not at all; `train` does.
 *
 * @example
 * await saveState('checkpoint', { model: tuned, optimizer }, { step });
 */
export async function saveState(folder: string, { model, optimizer, random }: StateParts, progress: JsonObject = {}): Promise<void> {
  await writing(folder, () => makeFolder(folder));
  const { tensors, ...numbers } = optimizer.state();
  try {
    await saveSafetensors(join(folder, 'parameters.safetensors'), new Map(model.namedParameters()));
    await saveSafetensors(join(folder, 'optimizer.safetensors'), tensors);
  } finally {
    disposeTensors(Object.values(tensors));
  }
  await model.save(join(folder, 'adapter'));
  await saveTaken(folder, model);
  const draws = random === undefined ? drawState(model) : random.within(() => drawState(model));
  const files = await fileChecksums(folder, kState);
  const state = { format: kFormat, progress, optimizer: numbers, random: { ...draws }, files };
  await writeFileAtomically(join(folder, kState), `${JSON.stringify({ ...state, checksum: jsonChecksum(state) }, undefined, 2)}\n`);
}

/**
 * Puts a state written by `saveState` back into a model and optimizer of the same shape, bit for bit; returns its `progress`.
 *
 * Throws `FormatError` when the folder is broken or belongs to another adapter or optimizer, `ConfigError` when its adapter began with another part of the frozen
 * weights; the parameters are then as before.
 */
export async function restoreState(folder: string, { model, optimizer, random }: StateParts): Promise<JsonObject> {
  const { progress, numbers, draws } = await readWholeState(folder);
  await requireSameTaken(folder, model);
  const parameters = await loadSafetensors(join(folder, 'parameters.safetensors'));
  const tensors = await loadSafetensors(join(folder, 'optimizer.safetensors'));
  try {
    const slots = new Map(model.namedParameters());
    requireSame(join(folder, 'parameters.safetensors'), parameters, slots);
    optimizer.loadState({ ...numbers, tensors: Object.fromEntries(tensors) } as unknown as OptimizerState);
    noGrad(() => {
      for (const [name, slot] of slots) copyInto(slot, parameters.get(name) as Tensor);
    });
    const restoreDraws = () => setDrawState(model, draws as unknown as DrawState);
    if (random === undefined) restoreDraws();
    else random.within(restoreDraws);
    // The stored tensors lie in files that may be removed: they are read before this returns.
    await synchronize();
  } finally {
    disposeTensors(parameters.values());
    disposeTensors(tensors.values());
  }
  return progress;
}

/** The `progress` of a checkpoint; nothing is restored. Every file is compared with its checksum: throws `FormatError` where one is damaged. */
export async function readProgress(folder: string): Promise<JsonObject> {
  return (await readWholeState(folder)).progress;
}

async function readWholeState(folder: string): Promise<{ progress: JsonObject; numbers: JsonObject; draws: JsonObject }> {
  const file = join(folder, kState);
  const { checksum, ...state } = await readJsonObject(file);
  const { format, progress, optimizer, random, files } = state;
  if (format !== kFormat)
    throw new FormatError(`${file}: unknown format of checkpoint; got ${JSON.stringify(format)}, expected ${kFormat}`);
  if (checksum !== jsonChecksum(state)) throw new FormatError(`${file}: damaged; its content does not have its checksum`);
  if (!isJsonObject(progress) || !isJsonObject(optimizer) || !isJsonObject(random))
    throw new FormatError(`${file}: "progress", "optimizer" or "random" is missing`);
  await checkFiles(folder, files);
  return { progress, numbers: optimizer, draws: random };
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
