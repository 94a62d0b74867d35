import type { SourceSummary } from '../data/dataset.js';
import type { Sequence } from '../data/encode.js';
import { isaLevel } from '../device.js';
import { ConfigError } from '../errors.js';
import type { JsonObject } from '../io/json.js';
import { full } from '../ops/create.js';
import { clipScale, type Schedule } from '../optim/index.js';
import { trainingSchema } from '../recipe-schema.js';
import { scope, synchronize } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { readProgress, restoreState, saveState } from './checkpoint.js';
import { createOptimizer, createSchedule, type RunOptimizer } from './optimizer.js';
import type { TrainingSettings } from './options.js';
import type { StepReport } from './run.js';
import { stepGradients } from './step.js';
import { type DrawState, drawState, resetGradients, setDrawState, type TrainableModel, trainableOf } from './trainable.js';

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
  'warmup',
  'weightDecay',
  'betas',
  'clip',
  'seed',
] as const;

/** A training at some step: model, optimizer, counters. Owns the optimizer. */
export class TrainingSession {
  readonly model: TrainableModel;
  readonly #settings: TrainingSettings;
  readonly #sources: readonly SourceSummary[];
  readonly #parameters: readonly Tensor[];
  readonly #optimizer: RunOptimizer;
  readonly #schedule: Schedule;
  #step = 0;
  #savedStep = 0;
  #tokens = 0;
  #seconds = 0;
  #loss = Number.NaN;
  #evalLoss: number | undefined;
  #best: { step: number; evalLoss: number } | undefined;
  #updating = false;

  /** `sources` are those of the rows; a checkpoint is not gone on with when they have changed. */
  constructor(model: TrainableModel, settings: TrainingSettings, sources: readonly SourceSummary[] = []) {
    this.model = model;
    this.#sources = sources;
    this.#settings = settings;
    this.#parameters = [...trainableOf(model).values()];
    this.#optimizer = createOptimizer(model, settings);
    this.#schedule = createSchedule(settings);
  }

  /** Steps done. */
  get step(): number {
    return this.#step;
  }

  get tokens(): number {
    return this.#tokens;
  }

  get seconds(): number {
    return this.#seconds;
  }

  get loss(): number {
    return this.#loss;
  }

  get evalLoss(): number | undefined {
    return this.#evalLoss;
  }

  get best(): { readonly step: number; readonly evalLoss: number } | undefined {
    return this.#best;
  }

  get trainableParameters(): number {
    return this.#parameters.reduce((sum, { size }) => sum + size, 0);
  }

  /** Whether steps were done since the last save or restore. */
  get changed(): boolean {
    return this.#step !== this.#savedStep;
  }

  /** True while parameters are being changed: a state of that moment is no state of any step. */
  get updating(): boolean {
    return this.#updating;
  }

  /** One optimizer step on these rows. When it fails before the update, parameters and optimizer are as before. */
  async run(rows: readonly Sequence[]): Promise<StepReport> {
    const start = performance.now();
    const step = this.#step + 1;
    const { batch, clip, checkpointing } = this.#settings;
    const rateFactor = this.#schedule(step - 1);
    const draws = drawState(this.model);
    const { loss, gradNorm, tokens } = await this.#undoing(draws, () =>
      stepGradients(this.model, this.#parameters, { rows, batch, step, checkpointing }),
    );
    this.#updating = true;
    scope(() => this.#optimizer.step({ rateFactor, ...(clip === 0 ? {} : { clipScale: clipScale(full([], gradNorm), clip) }) }));
    this.#optimizer.zeroGrad();
    await synchronize();
    this.#updating = false;
    const seconds = (performance.now() - start) / 1000;
    this.#step = step;
    this.#tokens += tokens;
    this.#seconds += seconds;
    this.#loss = loss;
    return {
      step,
      loss,
      learningRate: this.#settings.learningRate * rateFactor,
      gradNorm,
      tokens,
      tokensPerSecond: tokens / seconds,
      seconds,
    };
  }

  /** Runs `work`; when it fails, gradients are dropped and random draws are where they were. */
  async #undoing<T>(draws: DrawState, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      resetGradients(this.model);
      setDrawState(this.model, draws);
      throw error;
    }
  }

  /** Notes a held-out loss; true when it is the lowest so far. */
  evaluated(evalLoss: number): boolean {
    this.#evalLoss = evalLoss;
    if (this.#best !== undefined && this.#best.evalLoss <= evalLoss) return false;
    this.#best = { step: this.#step, evalLoss };
    return true;
  }

  async save(folder: string): Promise<void> {
    await saveState(folder, { model: this.model, optimizer: this.#optimizer }, this.#progress());
    this.#savedStep = this.#step;
  }

  /** Throws `ConfigError` when the checkpoint was made with other settings, `FormatError` when it is broken. */
  async restore(folder: string): Promise<void> {
    const progress = await readProgress(folder);
    const { settings = {} } = progress as { settings?: Record<string, unknown> };
    const defaults = trainingSchema.parse({});
    for (const key of kDecisive) {
      // A checkpoint of an earlier version lacks the settings that came later: it ran with what is now their default.
      const [was, is] = [key in settings ? settings[key] : defaults[key], this.#settings[key]].map((value) => JSON.stringify(value));
      if (was !== is)
        throw new ConfigError(`resume: training.${key} differs from that of the run in "${folder}"; got ${is}, expected ${was}`);
    }
    checkSources(folder, (progress as { data?: readonly SourceSummary[] }).data, this.#sources);
    const { step, tokens, seconds, loss, evalLoss, best } = progress as unknown as Progress;
    if (step > this.#settings.steps)
      throw new ConfigError(`resume: the run in "${folder}" is at step ${step}; got training.steps ${this.#settings.steps}`);
    await restoreState(folder, { model: this.model, optimizer: this.#optimizer });
    this.#step = step;
    this.#savedStep = step;
    this.#tokens = tokens;
    this.#seconds = seconds;
    this.#loss = loss ?? Number.NaN;
    this.#evalLoss = evalLoss;
    this.#best = best;
  }

  #progress(): JsonObject & Progress {
    const settings = Object.fromEntries(kDecisive.map((key) => [key, this.#settings[key]]));
    return {
      step: this.#step,
      tokens: this.#tokens,
      seconds: this.#seconds,
      loss: Number.isNaN(this.#loss) ? null : this.#loss,
      ...(this.#evalLoss === undefined ? {} : { evalLoss: this.#evalLoss }),
      ...(this.#best === undefined ? {} : { best: this.#best }),
      settings,
      data: this.#sources.map((source) => ({ ...source })),
      isaLevel: isaLevel(),
    };
  }

  dispose(): void {
    this.#optimizer.dispose();
  }
}

/** Throws `ConfigError` where rows are not those that a checkpoint was made with, as far as numbers of rows, bytes and weights tell. */
function checkSources(folder: string, was: readonly SourceSummary[] | undefined, is: readonly SourceSummary[]): void {
  if (was === undefined || was.length === 0 || is.length === 0) return;
  const advice = 'put the data back as it was, or begin a new run from the adapter of this one (`adapter: <run>/adapter`)';
  if (was.length !== is.length)
    throw new ConfigError(`resume: the run in "${folder}" has other data; got ${is.length} sources, expected ${was.length}; ${advice}`);
  for (const [index, source] of is.entries()) {
    for (const key of ['rows', 'bytes', 'weight'] as const) {
      const before = was[index]?.[key];
      if (before !== source[key])
        throw new ConfigError(
          `resume: "${source.name}" is not the data of the run in "${folder}"; got ${source[key] ?? 'no'} ${key}, expected ${before ?? 'no'} ${key}; ${advice}`,
        );
    }
  }
}

/** Counters in a checkpoint. */
interface Progress {
  readonly step: number;
  readonly tokens: number;
  readonly seconds: number;
  readonly loss: number | null;
  readonly evalLoss?: number;
  readonly best?: { step: number; evalLoss: number };
}
