import { FormatError } from '../errors.js';
import type { TrainingStart } from './callbacks.js';
import { readProgress } from './checkpoint.js';
import type { RunFolder } from './run-folder.js';
import type { TrainingSession } from './session.js';

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
