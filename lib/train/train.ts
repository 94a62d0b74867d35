import { type Dataset, loadDataset } from '../data/dataset.js';
import { RowOrder } from '../data/order.js';
import { CancelledError, NonFiniteError } from '../errors.js';
import { checkMemory, longestRow } from '../estimate/check.js';
import { RunRecorder } from '../report/recorder.js';
import { memory } from '../scope.js';
import { evaluateDataset } from './evaluate.js';
import { reportSettings, type TrainingSettings, type TrainOptions, trainingSettings } from './options.js';
import { type StepReport, type TrainingResult, TrainingRun } from './run.js';
import { RunFolder } from './run-folder.js';
import { runRecipe } from './run-recipe.js';
import { TrainingSession } from './session.js';
import type { TrainableModel } from './trainable.js';

/**
 * Trains the adapter of a model. Await the run for its result, or iterate over its steps; nothing happens before.
 *
 * With `out` it keeps a run folder: metrics, report, checkpoints (from which `resume: true` goes on with the same bits), the last and the best adapter. Throws
 * `ConfigError` at once for wrong options; the run rejects with `FormatError` for bad rows, `NonFiniteError` when a loss is not finite and `CancelledError` when
 * the signal fires, each with the state of the last step saved. A run that will not fit
 * into memory is an `OutOfMemoryError` before its first step (`training.memory`).
 *
 * @example
 * const run = train(tuned, { data: { train: { path: 'notes.jsonl' } }, training: { steps: 300, batch: 8 } });
 * for await (const { step, loss } of run) console.log(step, loss);
 */
export function train(model: TrainableModel, options: TrainOptions): TrainingRun {
  const settings = trainingSettings(model, options.training);
  reportSettings(model, options.report);
  if (options.out !== undefined) RunFolder.check(options.out, options.resume ?? false);
  return new TrainingRun(trainSteps(model, options, settings));
}

async function* trainSteps(
  model: TrainableModel,
  options: TrainOptions,
  settings: TrainingSettings,
): AsyncGenerator<StepReport, TrainingResult> {
  const { signal, out, resume = false } = options;
  if (signal?.aborted) throw new CancelledError('train: cancelled before the first step', { cause: signal.reason });
  const { sequence, emptyRows } = settings;
  const load = { sequence, signal, onProgress: options.onData };
  const rows = await loadDataset(options.data.train, model.tokenizer, { ...load, emptyRows });
  const held = options.data.eval && (await loadDataset(options.data.eval, model.tokenizer, { ...load, emptyRows: 'keep' }));
  await checkMemory(model, settings, longestRow(rows));
  const session = new TrainingSession(model, settings);
  const folder = out === undefined ? undefined : RunFolder.open(out, resume);
  let recorder: RunRecorder | undefined;
  let failed = false;
  let reason: unknown;
  try {
    if (folder !== undefined) recorder = await prepare(folder, session, options, settings);
    return yield* steps(session, rows, held, folder, recorder, settings, signal);
  } catch (error) {
    failed = true;
    reason = error;
    throw error;
  } finally {
    // Reached on errors, on cancellation, and when the loop over the steps is left early: the last whole step is never lost.
    try {
      if (folder !== undefined && session.changed && !session.updating) {
        // An error on its way is worth more than the one of a save that fails for the same reason.
        await saveCheckpoint(folder, session, settings).catch((error: unknown) => (failed ? undefined : Promise.reject(error)));
      }
    } finally {
      await recorder?.stop(reason);
      session.dispose();
      folder?.close();
    }
  }
}

/** Restores the newest checkpoint, if any, brings the files of the run folder to its step, and begins the report. */
async function prepare(
  folder: RunFolder,
  session: TrainingSession,
  options: TrainOptions,
  settings: TrainingSettings,
): Promise<RunRecorder> {
  folder.removeLeftovers();
  const newest = folder.checkpoints().at(-1);
  if (newest !== undefined) await session.restore(folder.checkpoint(newest));
  await folder.writeRecipe(runRecipe(options, settings, session.model));
  await folder.rewindMetrics(session.step);
  const report = reportSettings(session.model, options.report);
  const recorder = new RunRecorder(folder, session.step, session.trainableParameters, report);
  await recorder.begin(session.model, session.step);
  return recorder;
}

async function* steps(
  session: TrainingSession,
  rows: Dataset,
  held: Dataset | undefined,
  folder: RunFolder | undefined,
  recorder: RunRecorder | undefined,
  settings: TrainingSettings,
  signal: AbortSignal | undefined,
): AsyncGenerator<StepReport, TrainingResult> {
  const order = new RowOrder(rows.length, settings.shuffle ? settings.seed : undefined);
  while (session.step < settings.steps) {
    if (signal?.aborted) throw await cancelled(folder, session, settings, signal);
    const taken = order.step(session.step + 1, settings.batch * settings.accumulate).map((index) => rows.at(index));
    const report = await stepOrExplain(session, taken, folder, settings);
    const { step } = report;
    recorder?.step(report);
    const evalLoss = isDue(step, settings.evalEvery, settings) ? await evaluateStep(session, held, folder, recorder, signal) : undefined;
    if (folder !== undefined && isDue(step, settings.saveEvery, settings)) await saveCheckpoint(folder, session, settings);
    await recorder?.refresh();
    yield { ...report, ...(evalLoss === undefined ? {} : { evalLoss }) };
  }
  if (folder !== undefined) {
    if (session.changed) await saveCheckpoint(folder, session, settings);
    await session.model.save(folder.adapter);
  }
  const result = resultOf(session, folder);
  await recorder?.finish(session.model, result);
  return result;
}

const isDue = (step: number, every: number, { steps }: TrainingSettings): boolean => step === steps || (every > 0 && step % every === 0);

/** One step; an error that stops it says where the state before it is. */
async function stepOrExplain(
  session: TrainingSession,
  rows: Parameters<TrainingSession['run']>[0],
  folder: RunFolder | undefined,
  settings: TrainingSettings,
): Promise<StepReport> {
  try {
    return await session.run(rows);
  } catch (error) {
    if (!(error instanceof NonFiniteError)) throw error;
    const kept = folder === undefined ? 'the adapter has' : `"${await saveCheckpoint(folder, session, settings)}" holds`;
    throw new NonFiniteError(`${error.message}; ${kept} the state after step ${session.step}`, { cause: error });
  }
}

/** Loss over the held-out rows; the adapter is kept in `best/` when it is the lowest so far. An abort does not end it with an error. */
async function evaluateStep(
  session: TrainingSession,
  held: Dataset | undefined,
  folder: RunFolder | undefined,
  recorder: RunRecorder | undefined,
  signal: AbortSignal | undefined,
): Promise<number | undefined> {
  if (held === undefined) return undefined;
  let evalLoss: number;
  try {
    evalLoss = (await evaluateDataset(session.model, held, { signal })).nll;
  } catch (error) {
    if (error instanceof CancelledError) return undefined;
    throw error;
  }
  const isBest = session.evaluated(evalLoss);
  recorder?.evaluation(session.step, evalLoss);
  if (isBest && folder !== undefined) await session.model.save(folder.best);
  return evalLoss;
}

/** Saves checkpoint and adapter of the current step; returns the checkpoint's folder. */
async function saveCheckpoint(folder: RunFolder, session: TrainingSession, settings: TrainingSettings): Promise<string> {
  await folder.writeCheckpoint(session.step, settings.keep, (path) => session.save(path));
  await session.model.save(folder.adapter);
  return folder.checkpoint(session.step);
}

async function cancelled(
  folder: RunFolder | undefined,
  session: TrainingSession,
  settings: TrainingSettings,
  signal: AbortSignal,
): Promise<CancelledError> {
  const at = `train: cancelled after step ${session.step} of ${settings.steps}`;
  if (folder === undefined)
    return new CancelledError(`${at}; the adapter has the weights of that step, nothing was written (no \`out\`)`, {
      cause: signal.reason,
    });
  const saved = await saveCheckpoint(folder, session, settings);
  return new CancelledError(`${at}; saved "${saved}"; to go on: the same command with --resume (in code: resume: true)`, {
    cause: signal.reason,
  });
}

function resultOf(session: TrainingSession, folder: RunFolder | undefined): TrainingResult {
  const { step, tokens, seconds, loss, evalLoss, best, trainableParameters } = session;
  return {
    steps: step,
    loss,
    ...(evalLoss === undefined ? {} : { evalLoss }),
    ...(best === undefined ? {} : { best }),
    tokens,
    tokensPerSecond: seconds > 0 ? tokens / seconds : 0,
    peakBytes: memory().peakBytes,
    trainableParameters,
    ...(folder === undefined ? {} : { adapter: folder.adapter }),
    seconds,
  };
}
