import type { RowSet, SourceSummary } from '../data/dataset.js';
import type { EncodedRow } from '../data/row-encoding.js';
import { CancelledError, LossSpikeError, NonFiniteError } from '../errors.js';
import type { AnswerProgress } from '../generate/answer-accuracy.js';
import { isLanguageModel } from '../model.js';
import { RunRecorder } from '../report/recorder.js';
import { memory } from '../scope.js';
import type { TrainingCallbacks, TrainingEnd, TrainingStart } from './callbacks.js';
import { type HeldQuestions, heldAnswerAccuracy } from './held-answers.js';
import { reportSettings, type TrainingSettings, type TrainOptions } from './options.js';
import { resumeNewest } from './resume.js';
import type { Evaluated, StepReport, TrainingResult } from './run.js';
import { RunFolder } from './run-folder.js';
import { runRecipe } from './run-recipe.js';
import { TrainingSession } from './session.js';
import type { AnyTrainable } from './trainable.js';

/** A run between its beginning and its end: the session with what is written, told and asked beside it. Owns session and folder until `end`. */
export class ActiveRun {
  readonly session: TrainingSession;
  readonly #settings: TrainingSettings;
  readonly #options: TrainOptions;
  readonly #callbacks: TrainingCallbacks;
  readonly #folder: RunFolder | undefined;
  #recorder: RunRecorder | undefined;
  /** False while the metrics lack the last step: a checkpoint of it would leave a gap in them for good. */
  #recorded = true;
  #ended: TrainingEnd | undefined;

  /** `sources` are those of the rows. */
  constructor(model: AnyTrainable, options: TrainOptions, settings: TrainingSettings, sources: readonly SourceSummary[]) {
    this.#settings = settings;
    this.#options = options;
    this.#callbacks = options.callbacks ?? {};
    this.session = new TrainingSession(model, settings, sources);
    try {
      this.#folder = options.out === undefined ? undefined : RunFolder.open(options.out, options.resume ?? false);
    } catch (error) {
      this.session.dispose();
      throw error;
    }
  }

  /** Restores the newest whole checkpoint, if any, brings the files of the run folder to its step, and begins the report. */
  async begin(): Promise<void> {
    const { session } = this;
    const folder = this.#folder;
    let resumed: Pick<TrainingStart, 'checkpoint' | 'damaged'> = { damaged: [] };
    if (folder !== undefined) {
      folder.removeLeftovers();
      resumed = await resumeNewest(folder, session);
      await folder.writeRecipe(runRecipe(this.#options, this.#settings, session.model));
      await folder.rewindMetrics(session.step, session.evaluatedStep);
      const report = reportSettings(session.model, this.#options.report);
      const recorder = new RunRecorder(folder, session, report);
      this.#recorder = recorder;
      await this.#cancellable(() => recorder.begin(session.model, session.step, this.#options.signal));
    }
    const { step, trainableParameters } = session;
    for (const { path, reason } of this.#callbacks.onStart === undefined ? resumed.damaged : [])
      process.emitWarning(`resume: a damaged checkpoint was set aside as "${path}"; ${reason}`);
    await this.#callbacks.onStart?.({ step, steps: this.#settings.steps, trainableParameters, ...resumed });
  }

  async step(rows: readonly EncodedRow[]): Promise<StepReport> {
    const report = await this.#explaining(() => this.#cancellable(() => this.session.run(rows, this.#options.signal)));
    this.#recorded = false;
    this.#recorder?.step(report);
    this.#recorded = true;
    await this.#callbacks.onStep?.(report);
    const { skipped } = report;
    if (skipped !== undefined) await this.#callbacks.onSkip?.({ ...report, skipped });
    return report;
  }

  /** Whether something that comes every so many steps, and at the end, comes after the current one. */
  isDue(every: number): boolean {
    const { step } = this.session;
    return step > 0 && (step === this.#settings.steps || (every > 0 && step % every === 0));
  }

  /** The held-out rows, where their evaluation is due and not done yet; the adapter is kept in `best/` when it is the best so far. */
  async evaluate(held: RowSet<EncodedRow> | undefined, questions?: HeldQuestions): Promise<Evaluated | undefined> {
    const { session } = this;
    if (held === undefined || session.evaluatedStep === session.step || !this.isDue(this.#settings.evalEvery)) return undefined;
    const { signal } = this.#options;
    const found = await this.#cancellable(async (): Promise<Evaluated> => {
      const { loss, metrics } = await session.task.measure(held, { signal });
      const evalMetrics = { ...metrics, ...(await this.#answers(questions)) };
      return { evalLoss: loss, ...(Object.keys(evalMetrics).length === 0 ? {} : { evalMetrics }) };
    });
    const isBest = session.isBest(found);
    if (isBest) await this.#saveAdapter(this.#folder?.best);
    this.#recorder?.evaluation(session.step, found, isBest);
    session.evaluated(found);
    await this.#callbacks.onEvaluation?.({ step: session.step, ...found, isBest });
    return found;
  }

  /** How well the model answers, where that is asked. */
  async #answers(questions: HeldQuestions | undefined): Promise<{ readonly answerAccuracy?: number }> {
    const { model, step } = this.session;
    if (questions === undefined || !isLanguageModel(model)) return {};
    const onProgress = (progress: AnswerProgress) => void this.#callbacks.onAnswers?.({ ...progress, step });
    return { answerAccuracy: await heldAnswerAccuracy(model, questions, { signal: this.#options.signal, onProgress }) };
  }

  /** Saves checkpoint and adapter where they are due. */
  async saveIfDue(): Promise<void> {
    if (this.#folder !== undefined && this.session.changed && this.isDue(this.#settings.saveEvery)) await this.#save(this.#folder);
    await this.#recorder?.refresh();
  }

  /** Saves the last state and says how the run went. */
  async finish(): Promise<TrainingResult> {
    const { session } = this;
    const folder = this.#folder;
    if (folder !== undefined) {
      if (session.changed) await this.#save(folder);
      await this.#saveAdapter(folder.adapter);
    }
    const result = this.#result();
    await this.#cancellable(async () => await this.#recorder?.finish(session.model, result, this.#options.signal));
    this.#ended = { step: session.step, result };
    return result;
  }

  /** Saves the current state; returns the error that tells of it. */
  async cancelled(): Promise<CancelledError> {
    const { step } = this.session;
    const cause = this.#options.signal?.reason;
    const at = `train: cancelled after step ${step} of ${this.#settings.steps}`;
    if (this.#folder === undefined)
      return new CancelledError(`${at}; the adapter has the weights of that step, nothing was written (no \`out\`)`, { cause });
    const saved = await this.#saveOnce(this.#folder);
    return new CancelledError(`${at}; saved "${saved}"; to go on: the same command with --resume (in code: resume: true)`, { cause });
  }

  /** Reached however the run ends, also when the loop over its steps is left early: saves the last whole step and gives everything back. */
  async end(failure: { readonly error: unknown } | undefined): Promise<void> {
    const { session } = this;
    const folder = this.#folder;
    // What went wrong first says more than what fails after it for the same reason.
    const unlessFailed = async (work: () => unknown): Promise<void> => {
      try {
        await work();
      } catch (error) {
        if (failure === undefined) throw error;
      }
    };
    try {
      const isWhole = session.changed && !session.updating && this.#recorded;
      if (folder !== undefined && isWhole) await unlessFailed(() => this.#save(folder));
    } finally {
      try {
        await this.#recorder?.stop(failure?.error);
        const left = new CancelledError('train: the loop over its steps was left before the end');
        await unlessFailed(() => this.#callbacks.onEnd?.(this.#ended ?? { step: session.step, error: failure?.error ?? left }));
      } finally {
        session.dispose();
        folder?.close();
      }
    }
  }

  /** Saves checkpoint and adapter of the current step; returns the checkpoint's folder. */
  async #save(folder: RunFolder): Promise<string> {
    const { session } = this;
    await folder.writeCheckpoint(session.step, this.#settings.keep, (path) => session.save(path));
    session.saved();
    await this.#saveAdapter(folder.adapter);
    const path = folder.checkpoint(session.step);
    await this.#callbacks.onCheckpoint?.({ step: session.step, path });
    return path;
  }

  async #saveAdapter(path: string | undefined): Promise<void> {
    if (path === undefined) return;
    this.#folder?.requireHeld();
    await this.session.model.save(path);
  }

  async #saveOnce(folder: RunFolder): Promise<string> {
    const { session } = this;
    return session.changed || !folder.hasCheckpoint(session.step) ? this.#save(folder) : folder.checkpoint(session.step);
  }

  /** Runs `work`; where the signal ends it, the state is saved and the error says how to go on. */
  async #cancellable<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof CancelledError && this.#options.signal?.aborted) throw await this.cancelled();
      throw error;
    }
  }

  /** Runs a step; an error of the policy that stops it says where the state before it is. */
  async #explaining<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof NonFiniteError || error instanceof LossSpikeError)) throw error;
      const kept = this.#folder === undefined ? 'the adapter has' : `"${await this.#saveOnce(this.#folder)}" holds`;
      const Kind = error instanceof NonFiniteError ? NonFiniteError : LossSpikeError;
      throw new Kind(`${error.message}; ${kept} the state after step ${this.session.step}`, { cause: error });
    }
  }

  #result(): TrainingResult {
    const { step, tokens, seconds, loss, evaluation, best, trainableParameters, skippedSteps, stopReason } = this.session;
    return {
      steps: step,
      loss,
      ...evaluation,
      ...(best === undefined ? {} : { best }),
      ...(stopReason === undefined || step === this.#settings.steps ? {} : { stoppedEarly: stopReason }),
      ...(skippedSteps === 0 ? {} : { skippedSteps }),
      tokens,
      tokensPerSecond: seconds > 0 ? tokens / seconds : 0,
      peakBytes: memory().peakBytes,
      trainableParameters,
      ...(this.#folder === undefined ? {} : { adapter: this.#folder.adapter }),
      seconds,
    };
  }
}
