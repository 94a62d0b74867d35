import { describeInput } from '../data/row.js';
import { CancelledError, ConfigError } from '../errors.js';
import { checkMemory } from '../estimate/check.js';
import { taskOf } from '../tasks/registry.js';
import { ActiveRun } from './active-run.js';
import { answerSettings } from './held-answers.js';
import { reportSettings, type TrainingSettings, type TrainOptions, trainingSettings } from './options.js';
import { type StepReport, type TrainingResult, TrainingRun } from './run.js';
import { RunData } from './run-data.js';
import { RunFolder } from './run-folder.js';
import type { AnyTrainable } from './trainable.js';

/**
 * Trains the adapter of a model. Await the run for its result, or iterate over its steps; nothing happens before.
 *
 * With `out` it keeps a run folder: metrics, report, checkpoints (from which `resume: true` goes on with the same bits), the last and the best adapter. Throws
 * `ConfigError` at once for wrong options; the run rejects with `FormatError` for bad rows, `NonFiniteError` and `LossSpikeError` where `training.policy` says
 * stop, `IoError` when `out` cannot be written and `CancelledError` when the signal fires, each with the state of the last step saved where it can be. A run that
 * will not fit into memory is an `OutOfMemoryError` before its first step (`training.memory`).
 *
 * @example
 * const run = train(tuned, { data: { train: { path: 'notes.jsonl' } }, training: { steps: 300, batch: 8 } });
 * for await (const { step, loss } of run) console.log(step, loss);
 */
export function train(model: AnyTrainable, options: TrainOptions): TrainingRun {
  if (options?.data?.train === undefined)
    throw new ConfigError(`train: there are no rows; got ${describeInput(options)}, expected { data: { train: { path } } }`);
  const settings = trainingSettings(model, options.training);
  reportSettings(model, options.report);
  answerSettings(model, options.evaluation, options.data.eval);
  if (settings.earlyStopping !== undefined && options.data.eval === undefined)
    throw new ConfigError('training.earlyStopping: needs held-out rows; expected data.eval beside it');
  if (options.out !== undefined) RunFolder.check(options.out, options.resume ?? false);
  return new TrainingRun(trainSteps(model, options, settings));
}

async function* trainSteps(
  model: AnyTrainable,
  options: TrainOptions,
  settings: TrainingSettings,
): AsyncGenerator<StepReport, TrainingResult> {
  const { signal } = options;
  if (signal?.aborted) throw new CancelledError('train: cancelled before the first step', { cause: signal.reason });
  const data = await RunData.open(model, options, settings);
  try {
    const { sequence } = settings;
    await checkMemory(model, settings, data.longest ?? taskOf(model, settings.loss).mostTokens?.(sequence) ?? sequence);
    return yield* trainOn(data, model, options, settings);
  } finally {
    await data.close();
  }
}

async function* trainOn(
  data: RunData,
  model: AnyTrainable,
  options: TrainOptions,
  settings: TrainingSettings,
): AsyncGenerator<StepReport, TrainingResult> {
  const run = new ActiveRun(model, options, settings, data.train.sources);
  let failure: { readonly error: unknown } | undefined;
  try {
    await run.begin();
    return yield* steps(run, data, settings, options.signal);
  } catch (error) {
    failure = { error };
    throw error;
  } finally {
    await run.end(failure);
  }
}

async function* steps(
  run: ActiveRun,
  { loader, held, questions }: RunData,
  settings: TrainingSettings,
  signal: AbortSignal | undefined,
): AsyncGenerator<StepReport, TrainingResult> {
  const { session } = run;
  // An evaluation that the last process did not come to the end of.
  await run.evaluate(held, questions);
  while (session.step < settings.steps && session.stopReason === undefined) {
    if (signal?.aborted) throw await run.cancelled();
    const report = await run.step(await loader.take(session.step + 1, settings.steps));
    const evaluated = await run.evaluate(held, questions);
    await run.saveIfDue();
    yield { ...report, ...evaluated };
  }
  return run.finish();
}
