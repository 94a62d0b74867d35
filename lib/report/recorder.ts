import { join } from 'node:path';
import { CancelledError } from '../errors.js';
import { writeFileAtomically } from '../io/atomic-file.js';
import { isLanguageModel } from '../model.js';
import { memory } from '../scope.js';
import type { Evaluated, StepReport, TrainingResult } from '../train/run.js';
import type { RunFolder } from '../train/run-folder.js';
import type { TrainingSession } from '../train/session.js';
import type { AnyTrainable } from '../train/trainable.js';
import { runEnvironment } from './environment.js';
import { EventFile } from './event-file.js';
import { readRun } from './read-run.js';
import { renderRunPage } from './run-page.js';
import { type RunRecord, type RunStatus, readRunRecord, writeRunRecord } from './run-record.js';
import { generateSamples, type ReportSettings } from './samples.js';

/** Least seconds between two refreshes of the report, and how many times the last one's own time. */
const kRefreshSeconds = 10;
const kRefreshPace = 50;

/**
 * Writes what tells of a run: rows of `metrics.jsonl`, TensorBoard events, `run.json` and `report.html`. A report that cannot be written is a warning of the
 * process, never the end of the run.
 */
export class RunRecorder {
  readonly #folder: RunFolder;
  readonly #events: EventFile;
  readonly #settings: ReportSettings | undefined;
  #record: RunRecord;
  #nextRefresh = 0;
  #ended = false;
  #warned = false;

  /** The session stands at step 0, or at that of the checkpoint it goes on from. */
  constructor(
    folder: RunFolder,
    { step, trainableParameters, task: { decides } }: Pick<TrainingSession, 'step' | 'trainableParameters' | 'task'>,
    settings: ReportSettings | undefined,
  ) {
    this.#folder = folder;
    this.#settings = settings;
    this.#events = EventFile.create(folder.path, step + 1);
    const now = new Date().toISOString();
    const earlier = readRunRecord(folder.path);
    const samples = (settings?.samples ?? []).map((prompt) => {
      const before = earlier?.samples.find((sample) => sample.prompt === prompt)?.before;
      return { prompt, ...(before === undefined ? {} : { before }) };
    });
    this.#record = {
      status: 'running',
      started: earlier?.started ?? now,
      updated: now,
      trainableParameters,
      decides,
      environment: runEnvironment(),
      samples,
    };
  }

  /** Samples of the untrained model, where they are asked for and `step` is 0; the first report. */
  async begin(model: AnyTrainable, step: number, signal?: AbortSignal): Promise<void> {
    if (step === 0) await this.#sample(model, 'before', signal);
    await this.#write();
  }

  step(report: StepReport): void {
    const { step, loss, learningRate, gradNorm, tokens, tokensPerSecond, seconds, skipped, spike } = report;
    const { peakBytes } = memory();
    const residentBytes = process.memoryUsage.rss();
    this.#folder.appendMetrics({ step, loss, learningRate, gradNorm, tokens, seconds, peakBytes, residentBytes, skipped, spike });
    this.#events.add(step, {
      'train/loss': loss,
      'train/learning_rate': learningRate,
      'train/grad_norm': gradNorm,
      'train/tokens_per_second': tokensPerSecond,
      'memory/peak_bytes': peakBytes,
      'memory/resident_bytes': residentBytes,
    });
  }

  /** `isBest` is written beside metrics; where there is a loss alone the rows themselves say it. */
  evaluation(step: number, { evalLoss, evalMetrics }: Evaluated, isBest: boolean): void {
    this.#folder.appendMetrics({ step, evalLoss, ...(evalMetrics === undefined ? {} : { evalMetrics, ...(isBest ? { isBest } : {}) }) });
    const metrics = Object.entries(evalMetrics ?? {}).map(([name, value]) => [`eval/${name}`, value] as const);
    this.#events.add(step, { 'eval/loss': evalLoss, ...Object.fromEntries(metrics) });
  }

  /** Writes the report again when the last one is some seconds old. */
  async refresh(): Promise<void> {
    if (performance.now() >= this.#nextRefresh) await this.#write();
  }

  /** The run is through: samples of the trained model, the last report. */
  async finish(model: AnyTrainable, result: TrainingResult, signal?: AbortSignal): Promise<void> {
    await this.#sample(model, 'after', signal);
    this.#ended = true;
    this.#record = { ...this.#record, status: 'done', result };
    await this.#write();
  }

  /** The run ended before its last step, with `error` or because its loop was left. Does nothing after `finish`. */
  async stop(error: unknown): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    const status: RunStatus = error === undefined || error instanceof CancelledError ? 'cancelled' : 'failed';
    const told = status === 'cancelled' ? {} : { error: error instanceof Error ? error.message : String(error) };
    this.#record = { ...this.#record, status, ...told };
    await this.#write();
  }

  async #sample(model: AnyTrainable, side: 'before' | 'after', signal: AbortSignal | undefined): Promise<void> {
    const { samples } = this.#record;
    if (this.#settings === undefined || samples.length === 0 || !isLanguageModel(model)) return;
    const texts = await generateSamples(model, this.#settings, signal);
    this.#record = { ...this.#record, samples: samples.map((sample, index) => ({ ...sample, [side]: texts[index] ?? '' })) };
  }

  async #write(): Promise<void> {
    const start = performance.now();
    this.#record = { ...this.#record, updated: new Date().toISOString() };
    const { path } = this.#folder;
    try {
      this.#folder.requireHeld();
      await writeRunRecord(path, this.#record);
      await writeFileAtomically(join(path, 'report.html'), renderRunPage(readRun(path)));
    } catch (error) {
      if (!this.#warned) process.emitWarning(`the report of run "${path}" cannot be written: ${(error as Error).message}`);
      this.#warned = true;
    }
    const now = performance.now();
    this.#nextRefresh = now + Math.max(kRefreshSeconds * 1000, kRefreshPace * (now - start));
  }
}
