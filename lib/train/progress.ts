import type { SourceSummary } from '../data/dataset.js';
import { ConfigError } from '../errors.js';
import type { JsonObject } from '../io/json.js';
import type { EarlyStoppingState } from './early-stopping.js';
import type { TrainingSettings } from './options.js';
import type { PolicyState } from './policy.js';
import type { BestState, Evaluated } from './run.js';
import { requireSameSources } from './same-sources.js';

/** Settings that decide what a run computes: a checkpoint made with others cannot be gone on with. `steps` may grow. */
const kDecisive = [
  'batch',
  'accumulate',
  'sequence',
  'packing',
  'lengthGrouped',
  'shuffle',
  'optimizer',
  'learningRate',
  'loraPlusRatio',
  'schedule',
  'minimumRate',
  'decayShare',
  'warmup',
  'weightDecay',
  'betas',
  'eps',
  'momentum',
  'clip',
  'seed',
  'loss',
] as const;

/** Where a run stands, as a checkpoint holds it. */
export interface Progress extends Partial<Evaluated> {
  readonly step: number;
  readonly tokens: number;
  readonly seconds: number;
  /** Null before the first update. */
  readonly loss: number | null;
  readonly best?: BestState;
  /** The step after which held-out loss was last computed; behind `step` when an evaluation that was due did not end. */
  readonly evaluatedStep: number;
  readonly policy: PolicyState;
  readonly earlyStopping: EarlyStoppingState;
  /** See `modelIdentity`. */
  readonly model: JsonObject;
  /** The sources of the rows. */
  readonly data: readonly SourceSummary[];
}

export function decisiveSettings(settings: TrainingSettings): JsonObject {
  return Object.fromEntries(kDecisive.map((key) => [key, settings[key]]));
}

/** The progress of the checkpoint in `folder`. Throws `ConfigError` when it was made with other settings or rows, or is past the steps asked for. */
export function progressFor(settings: TrainingSettings, sources: readonly SourceSummary[], progress: JsonObject, folder: string): Progress {
  const { settings: theirs = {} } = progress as { settings?: Record<string, unknown> };
  for (const key of kDecisive) {
    const [was, is] = [theirs[key], settings[key]].map((value) => JSON.stringify(value));
    if (was !== is)
      throw new ConfigError(`resume: training.${key} differs from that of the run in "${folder}"; got ${is}, expected ${was}`);
  }
  const found = progress as unknown as Progress;
  requireSameSources(folder, found.data, sources);
  if (found.step > settings.steps)
    throw new ConfigError(`resume: the run in "${folder}" is at step ${found.step}; got training.steps ${settings.steps}`);
  return found;
}
