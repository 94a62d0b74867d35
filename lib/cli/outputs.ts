import { z } from 'zod';
import { compareOutput } from './commands/compare.js';
import { completionOutput } from './commands/completion.js';
import { convertOutput } from './commands/convert.js';
import { doctorOutput } from './commands/doctor.js';
import { estimateOutput } from './commands/estimate.js';
import { evaluateOutput } from './commands/evaluate.js';
import { generateOutput } from './commands/generate.js';
import { inspectOutput } from './commands/inspect.js';
import { mergeOutput } from './commands/merge.js';
import { trainOutput } from './commands/train.js';
import { kErrorCodes } from './exit-codes.js';
import { profileOutput } from './profile-recipe.js';

/** What every command prints with `--json` when it fails. */
export const errorOutput = z.strictObject({
  error: z.strictObject({ code: z.enum(kErrorCodes).describe('kind of error, the same in every release'), message: z.string() }),
});

/** What each command prints with `--json`. */
export const outputs = {
  train: trainOutput,
  evaluate: evaluateOutput,
  generate: generateOutput,
  merge: mergeOutput,
  convert: convertOutput,
  inspect: inspectOutput,
  compare: compareOutput,
  estimate: estimateOutput,
  doctor: doctorOutput,
  'doctor-profile': profileOutput,
  completion: completionOutput,
  error: errorOutput,
} as const;
