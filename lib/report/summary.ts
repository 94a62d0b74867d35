import type { DecidingMeasure } from '../tasks/task.js';
import type { BestState, Evaluated } from '../train/run.js';
import type { EvaluationRow, RunData } from './read-run.js';

/** The final numbers of a run, or those so far. */
export interface RunSummary {
  readonly status: RunData['status'];
  /** Last step, and the steps that the recipe asks for. */
  readonly steps: number;
  readonly plannedSteps?: number;
  /** Loss of the last step. */
  readonly loss?: number;
  /** Mean loss of the last tenth of the steps that were made: steadier than that of one. */
  readonly recentLoss?: number;
  readonly evalLoss?: number;
  readonly evalMetrics?: Readonly<Record<string, number>>;
  readonly best?: BestState;
  /** Steps whose update a policy left out. */
  readonly skippedSteps: number;
  /** Why the run ended before its last step. */
  readonly stoppedEarly?: string;
  readonly tokens: number;
  readonly tokensPerSecond: number;
  /** Wall time of all steps. */
  readonly seconds: number;
  readonly peakBytes?: number;
  readonly trainableParameters?: number;
}

/** The same numbers for the report, `compare` and `inspect`, counted from the metrics of the run folder. */
export function summarize({ steps, evaluations, skips, recipe, record, status }: RunData): RunSummary {
  const made = steps.filter(({ skipped }) => skipped === undefined);
  const last = made.at(-1);
  const evaluated = evaluations.at(-1);
  const tokens = sum(made.map((row) => row.tokens));
  const seconds = sum(steps.map((row) => row.seconds));
  const recent = made.slice(-Math.max(1, Math.ceil(made.length / 10)));
  const peaks = steps.flatMap(({ peakBytes }) => (peakBytes === undefined ? [] : [peakBytes]));
  const planned = (recipe.training as { steps?: unknown } | undefined)?.steps;
  return {
    status,
    steps: Math.max(last?.step ?? 0, skips.at(-1)?.step ?? 0),
    skippedSteps: skips.length,
    ...(record?.result?.stoppedEarly === undefined ? {} : { stoppedEarly: record.result.stoppedEarly }),
    ...(typeof planned === 'number' ? { plannedSteps: planned } : {}),
    ...(last === undefined ? {} : { loss: last.loss, recentLoss: sum(recent.map(({ loss }) => loss)) / recent.length }),
    ...(evaluated === undefined ? {} : { ...valuesOf(evaluated), best: bestOf(evaluations) }),
    tokens,
    tokensPerSecond: seconds > 0 ? tokens / seconds : 0,
    seconds,
    ...(peaks.length === 0 ? {} : { peakBytes: peaks.reduce((a, b) => Math.max(a, b)) }),
    ...(record === undefined ? {} : { trainableParameters: record.trainableParameters }),
  };
}

const valuesOf = ({ evalLoss, evalMetrics }: EvaluationRow): Evaluated => ({
  evalLoss,
  ...(evalMetrics === undefined ? {} : { evalMetrics }),
});

/** The last row that says it is the best, where there are metrics, else that of the lowest loss. */
function bestOf(evaluations: RunData['evaluations']): BestState {
  const told = evaluations.findLast(({ isBest }) => isBest);
  const row = told ?? evaluations.reduce((best, other) => (other.evalLoss < best.evalLoss ? other : best));
  return { step: row.step, ...valuesOf(row) };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** What decides which state of a run is the best; undefined where it is the loss. */
export function decidingMetric({ record }: RunData): DecidingMeasure | undefined {
  const decides = record?.decides;
  return decides === undefined || decides.name === 'loss' ? undefined : decides;
}

/** The best held-out number by what decides, with its name. */
export function bestMeasure(run: RunData, best: BestState): { readonly name: string; readonly value: number } {
  const name = decidingMetric(run)?.name;
  const value = name === undefined ? undefined : best.evalMetrics?.[name];
  return name === undefined || value === undefined ? { name: 'loss', value: best.evalLoss } : { name, value };
}
