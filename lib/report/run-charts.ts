import { formatBytes, formatCount } from '../format.js';
import type { Chart, Series } from './chart.js';
import type { RunData, StepRow } from './read-run.js';
import { type Point, smoothed } from './series.js';

/** Steps from which on a curve gets a smoothed line beside its values. */
const kSmoothFrom = 30;

const pointsOf = (steps: readonly StepRow[], read: (row: StepRow) => number | undefined): Point[] =>
  steps.flatMap((row) => {
    const value = read(row);
    return value === undefined ? [] : [[row.step, value] as const];
  });

export const lossPoints = ({ steps }: RunData): Point[] => pointsOf(steps, ({ loss }) => loss);
export const evaluationPoints = ({ evaluations }: RunData): Point[] => evaluations.map(({ step, evalLoss }) => [step, evalLoss] as const);
export const ratePoints = ({ steps }: RunData): Point[] => pointsOf(steps, ({ learningRate }) => learningRate);
export const normPoints = ({ steps }: RunData): Point[] => pointsOf(steps, ({ gradNorm }) => gradNorm);
export const speedPoints = ({ steps }: RunData): Point[] =>
  pointsOf(steps, ({ tokens, seconds }) => (seconds > 0 ? tokens / seconds : undefined));
export const residentPoints = ({ steps }: RunData): Point[] => pointsOf(steps, ({ residentBytes }) => residentBytes);
export const peakPoints = ({ steps }: RunData): Point[] => pointsOf(steps, ({ peakBytes }) => peakBytes);

/** The moving average of a curve, for runs with enough steps; over about a thirtieth of them. */
export const averaged = (points: readonly Point[]): Point[] => smoothed(points, Math.max(5, points.length / 30));

/** Without zeros that say nothing: `20 k`, `150 MiB`. */
export const formatSpeed = (value: number): string => formatCount(value).replace(/\.0+ /, ' ');
export const formatMemory = (bytes: number): string => formatBytes(bytes).replace(/\.0+ /, ' ');

/** Values with their moving average over them, or alone where there are few. */
function withAverage(label: string, points: readonly Point[], color: number): Series[] {
  if (points.length < kSmoothFrom) return [{ label, points, color }];
  return [
    { label: `${label}, each step`, points, color, look: 'faint' },
    { label: `${label}, moving average`, points: averaged(points), color },
  ];
}

/** A chart of the metrics of the task, where it has some. */
function metricCharts({ evaluations }: RunData): Chart[] {
  const names = [...new Set(evaluations.flatMap(({ evalMetrics = {} }) => Object.keys(evalMetrics)))];
  const pointsFor = (name: string): Point[] =>
    evaluations.flatMap(({ step, evalMetrics }) => {
      const value = evalMetrics?.[name];
      return value === undefined ? [] : [[step, value] as const];
    });
  if (names.length === 0) return [];
  return [
    {
      title: 'Metrics',
      unit: 'on the held-out rows',
      series: names.map((name, color) => ({ label: name, points: pointsFor(name), color, look: 'marked' as const })),
    },
  ];
}

/** The charts of one run; those without a value are left out when they are drawn. */
export function runCharts(run: RunData): Chart[] {
  const clip = (run.recipe.training as { clip?: unknown } | undefined)?.clip;
  const norms = normPoints(run);
  const limit = typeof clip === 'number' && clip > 0 && norms.some(([, norm]) => norm > clip) ? clip : undefined;
  const first = norms[0]?.[0] ?? 0;
  const last = norms.at(-1)?.[0] ?? 0;
  return [
    {
      title: 'Loss',
      unit: run.recipe.task === undefined ? 'nats per token' : 'mean over targets',
      wide: true,
      series: [
        ...withAverage('training', lossPoints(run), 0),
        { label: 'held-out', points: evaluationPoints(run), color: 1, look: 'marked' },
      ],
    },
    ...metricCharts(run),
    {
      title: 'Learning rate',
      unit: 'after warm-up and schedule',
      fromZero: true,
      series: [{ label: 'learning rate', points: ratePoints(run), color: 0 }],
    },
    {
      title: 'Gradient norm',
      unit: 'global norm before clipping',
      fromZero: true,
      mayBeLog: true,
      series: [
        ...withAverage('norm', norms, 0),
        ...(limit === undefined
          ? []
          : [
              {
                label: `clipped to ${limit}`,
                points: [
                  [first, limit],
                  [last, limit],
                ] as Point[],
                color: 7,
                look: 'dashed' as const,
              },
            ]),
      ],
    },
    {
      title: 'Throughput',
      unit: 'tokens per second, padding not counted',
      fromZero: true,
      format: formatSpeed,
      series: withAverage('tokens/s', speedPoints(run), 0),
    },
    {
      title: 'Memory',
      unit: 'bytes',
      fromZero: true,
      format: formatMemory,
      binary: true,
      series: [
        { label: 'process, after the step', points: residentPoints(run), color: 0 },
        { label: 'tensors, peak so far', points: peakPoints(run), color: 2 },
      ],
    },
  ];
}
