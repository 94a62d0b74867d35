import type { SourceSummary } from '../data/dataset.js';
import type { EncodedRow } from '../data/row-encoding.js';
import { isaLevel } from '../device.js';
import type { JsonObject } from '../io/json.js';
import { full } from '../ops/create.js';
import { clipScale, type Schedule } from '../optim/index.js';
import { RandomScope } from '../random.js';
import { scope, synchronize } from '../scope.js';
import { taskOf } from '../tasks/registry.js';
import type { AnyTask, BatchPlace } from '../tasks/task.js';
import type { Tensor } from '../tensor.js';
import { readProgress, restoreState, saveState } from './checkpoint.js';
import { EarlyStopping } from './early-stopping.js';
import { type Objective, objectiveOf } from './objective.js';
import { createOptimizer, createSchedule, type RunOptimizer } from './optimizer.js';
import type { TrainingSettings } from './options.js';
import { StepPolicy } from './policy.js';
import { decisiveSettings, type Progress, progressFor } from './progress.js';
import type { BestState, Evaluated, StepReport } from './run.js';
import { modelIdentity, requireSameModel } from './same-model.js';
import { type StepGradients, stepGradients } from './step.js';
import { type AnyTrainable, drawState, resetGradients, setDrawState, trainableOf } from './trainable.js';

/** A training at some step: model, optimizer, counters. Owns the optimizer. Its random draws are its own, so that runs side by side do not meet. */
export class TrainingSession {
  readonly model: AnyTrainable;
  readonly task: AnyTask;
  readonly #settings: TrainingSettings;
  readonly #sources: readonly SourceSummary[];
  readonly #parameters: readonly Tensor[];
  readonly #objective: Objective;
  readonly #optimizer: RunOptimizer;
  readonly #schedule: Schedule;
  readonly #random: RandomScope;
  readonly #policy: StepPolicy;
  readonly #earlyStopping: EarlyStopping;
  #step = 0;
  #tokens = 0;
  #seconds = 0;
  #loss = Number.NaN;
  #evaluation: Evaluated | undefined;
  #best: BestState | undefined;
  #evaluatedStep = 0;
  #changed = false;
  #updating = false;

  /** `sources` are those of the rows; a checkpoint is not gone on with when they have changed. */
  constructor(model: AnyTrainable, settings: TrainingSettings, sources: readonly SourceSummary[] = []) {
    this.model = model;
    this.task = taskOf(model, settings.loss);
    this.#sources = sources;
    this.#settings = settings;
    this.#parameters = [...trainableOf(model).values()];
    this.#objective = objectiveOf(model);
    this.#optimizer = createOptimizer(model, settings);
    this.#schedule = createSchedule(settings);
    this.#random = new RandomScope(settings.seed);
    this.#policy = new StepPolicy(settings.policy);
    this.#earlyStopping = new EarlyStopping(settings.earlyStopping, this.task.decides);
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

  /** Loss of the last step that was made. */
  get loss(): number {
    return this.#loss;
  }

  /** The last held-out loss, and the metrics of the task. */
  get evaluation(): Evaluated | undefined {
    return this.#evaluation;
  }

  get best(): BestState | undefined {
    return this.#best;
  }

  /** The step after which held-out loss was last computed. */
  get evaluatedStep(): number {
    return this.#evaluatedStep;
  }

  /** Steps whose update was left out. */
  get skippedSteps(): number {
    return this.#policy.skipped;
  }

  /** Why the run is over before its last step; undefined while it is not. */
  get stopReason(): string | undefined {
    return this.#earlyStopping.reason;
  }

  get trainableParameters(): number {
    return this.#parameters.reduce((sum, { size }) => sum + size, 0);
  }

  /** Whether anything happened since the last save or restore. */
  get changed(): boolean {
    return this.#changed;
  }

  /** True while parameters are being changed: a state of that moment is no state of any step. */
  get updating(): boolean {
    return this.#updating;
  }

  /**
   * One step on these rows: an optimizer update, unless the policy leaves it out. When it fails or is cancelled before the update, everything is as before.
   * Throws `NonFiniteError` and `LossSpikeError` where the policy says stop, `CancelledError`.
   */
  async run(rows: readonly EncodedRow[], signal?: AbortSignal): Promise<StepReport> {
    const start = performance.now();
    const step = this.#step + 1;
    const rateFactor = this.#schedule(step - 1);
    const { values, judgement } = await this.#undoing(async () => {
      const { batch, checkpointing, seed } = this.#settings;
      const values = await stepGradients(this.#drawing(), this.#parameters, { rows, batch, checkpointing, place: { seed, step }, signal });
      const judgement = this.#policy.judge(values);
      if (judgement.action === 'stop') {
        const places = rows.map(({ where }) => where);
        throw this.#policy.stopError(step, values, judgement, places);
      }
      return { values, judgement };
    });
    const isSkipped = judgement.action === 'skip';
    if (isSkipped) resetGradients(this.model);
    else await this.#update(values, rateFactor);
    this.#policy.note(values, judgement);
    const seconds = (performance.now() - start) / 1000;
    this.#step = step;
    this.#changed = true;
    this.#seconds += seconds;
    if (!isSkipped) {
      this.#tokens += values.tokens;
      this.#loss = values.loss;
    }
    return {
      step,
      loss: values.loss,
      learningRate: this.#settings.learningRate * rateFactor,
      gradNorm: values.gradNorm,
      tokens: values.tokens,
      tokensPerSecond: values.tokens / seconds,
      seconds,
      ...(judgement.problem === undefined ? {} : isSkipped ? { skipped: judgement.problem } : { spike: true }),
    };
  }

  async #update({ gradNorm }: StepGradients, rateFactor: number): Promise<void> {
    const { clip } = this.#settings;
    this.#updating = true;
    scope(() => this.#optimizer.step({ rateFactor, ...(clip === 0 ? {} : { clipScale: clipScale(full([], gradNorm), clip) }) }));
    this.#optimizer.zeroGrad();
    await synchronize();
    this.#updating = false;
  }

  /** The task with losses that draw from the random numbers of this session. */
  #drawing(): Pick<AnyTask, 'batch'> {
    return {
      batch: (rows: readonly EncodedRow[], place: BatchPlace) => {
        const batch = this.task.batch(rows, place);
        return { ...batch, loss: (pass) => this.#random.within(() => this.#objective(batch, pass)) };
      },
    };
  }

  /** Runs `work`; when it fails, gradients are dropped and random draws are where they were. */
  async #undoing<T>(work: () => Promise<T>): Promise<T> {
    const draws = this.#random.within(() => drawState(this.model));
    try {
      return await work();
    } catch (error) {
      resetGradients(this.model);
      this.#random.within(() => setDrawState(this.model, draws));
      throw error;
    }
  }

  /** Whether what decides is better than at any evaluation before. */
  isBest(evaluation: Evaluated): boolean {
    const { higher } = this.task.decides;
    const value = this.#deciding(evaluation);
    const best = this.#best === undefined ? (higher ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY) : this.#deciding(this.#best);
    return higher ? value > best : value < best;
  }

  /** Notes the evaluation of the current step. */
  evaluated(evaluation: Evaluated): void {
    if (this.isBest(evaluation)) this.#best = { step: this.#step, ...evaluation };
    this.#evaluation = evaluation;
    this.#earlyStopping.note(this.#deciding(evaluation));
    this.#evaluatedStep = this.#step;
    this.#changed = true;
  }

  #deciding({ evalLoss, evalMetrics }: Evaluated): number {
    return evalMetrics?.[this.task.decides.name] ?? evalLoss;
  }

  async save(folder: string): Promise<void> {
    await saveState(folder, { model: this.model, optimizer: this.#optimizer, random: this.#random }, this.#progress());
  }

  /** Says that a save is in its place. */
  saved(): void {
    this.#changed = false;
  }

  /** Throws `ConfigError` when the checkpoint was made with other settings, `FormatError` when it is broken or of another adapter. */
  async restore(folder: string): Promise<void> {
    const progress = progressFor(this.#settings, this.#sources, await readProgress(folder), folder);
    requireSameModel(folder, progress.model, this.model);
    await restoreState(folder, { model: this.model, optimizer: this.#optimizer, random: this.#random });
    const { step, tokens, seconds, loss, evalLoss, evalMetrics, best, evaluatedStep, policy, earlyStopping } = progress;
    this.#step = step;
    this.#tokens = tokens;
    this.#seconds = seconds;
    this.#loss = loss ?? Number.NaN;
    this.#evaluation = evalLoss === undefined ? undefined : { evalLoss, ...(evalMetrics === undefined ? {} : { evalMetrics }) };
    this.#best = best;
    this.#evaluatedStep = evaluatedStep;
    this.#policy.restore(policy);
    this.#earlyStopping.restore(earlyStopping);
    this.#changed = false;
  }

  #progress(): JsonObject & Progress {
    return {
      step: this.#step,
      tokens: this.#tokens,
      seconds: this.#seconds,
      loss: Number.isNaN(this.#loss) ? null : this.#loss,
      ...this.#evaluation,
      ...(this.#best === undefined ? {} : { best: this.#best }),
      evaluatedStep: this.#evaluatedStep,
      policy: this.#policy.state(),
      earlyStopping: this.#earlyStopping.state(),
      settings: decisiveSettings(this.#settings),
      model: modelIdentity(this.model),
      data: this.#sources.map((source) => ({ ...source })),
      isaLevel: isaLevel(),
    };
  }

  dispose(): void {
    this.#optimizer.dispose();
  }
}
