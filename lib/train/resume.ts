import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { FormatError } from '../errors.js';
import type { TrainingStart } from './callbacks.js';
import { readProgress } from './checkpoint.js';
import { checkpointPath, checkpointSteps, type RunFolder } from './run-folder.js';
import type { TrainingSession } from './session.js';
import { kInitial } from './taken-state.js';

/**
 * Restores the newest checkpoint of a run folder whose files all have their checksums, if there is one. Damaged ones that are newer are set aside.
 *
 * Throws `FormatError` when there are checkpoints and none is whole, and as `TrainingSession.restore` does.
 */
export async function resumeNewest(folder: RunFolder, session: TrainingSession): Promise<Pick<TrainingStart, 'checkpoint' | 'damaged'>> {
  const damaged: { step: number; reason: string }[] = [];
  const steps = folder.checkpoints().reverse();
  for (const step of steps) {
    const path = folder.checkpoint(step);
    const reason = await damageOf(path);
    if (reason !== undefined) {
      damaged.push({ step, reason });
      continue;
    }
    await session.restore(path);
    const aside = damaged.map((found) => ({ path: folder.setAside(found.step), reason: found.reason }));
    return { checkpoint: path, damaged: aside };
  }
  if (damaged[0] !== undefined)
    throw new FormatError(
      `resume: no checkpoint in "${folder.path}" is whole; ${damaged[0].reason}; to begin again remove its "checkpoints"`,
    );
  return { damaged: [] };
}

/**
 * Folder of the factors that the adapter of a run began with, for the option `initial` of `attach`: from its newest whole checkpoint;
 * undefined where there is none. A run that is resumed with it neither decomposes weights nor looks at data again. Plain LoRA, and starts
 * whose rest is kept in few bits, take none: the same options and seed have the same bits.
 *
 * @example
 * const tuned = await attach(model, { type: 'lora', init: 'eva' }, { initial: await initialFactorsOf('runs/notes') });
 * await train(tuned, { data, out: 'runs/notes', resume: true });
 */
export async function initialFactorsOf(run: string): Promise<string | undefined> {
  for (const step of checkpointSteps(run).reverse()) {
    const path = checkpointPath(run, step);
    if ((await damageOf(path)) !== undefined) continue;
    // An adapter that leaves the weights alone has the ranks that were found.
    const initial = join(path, kInitial);
    return existsSync(initial) ? initial : join(path, 'adapter');
  }
  return undefined;
}

/** What is wrong with the files of a checkpoint; undefined where nothing is. */
async function damageOf(path: string): Promise<string | undefined> {
  try {
    await readProgress(path);
    return undefined;
  } catch (error) {
    if (error instanceof FormatError) return error.message;
    throw error;
  }
}
