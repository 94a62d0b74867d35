import { formatBytes, formatCount, formatSeconds } from '../format.js';
import type { DecidingMeasure } from '../tasks/task.js';
import { type Chart, renderChart, type Series } from './chart.js';
import { escapeHtml, table } from './html.js';
import { renderPage } from './page.js';
import type { RunData } from './read-run.js';
import { recipeDifferences } from './recipe-differences.js';
import {
  averaged,
  evaluationPoints,
  formatMemory,
  formatSpeed,
  lossPoints,
  normPoints,
  peakPoints,
  ratePoints,
  speedPoints,
} from './run-charts.js';
import { modelOf, statusPill } from './run-page.js';
import { formatNumber } from './scale.js';
import type { Point } from './series.js';
import { decidingMetric, type RunSummary, summarize } from './summary.js';

/** Colours repeat after so many runs. */
const kColors = 8;

/** A run under the name that sets it apart from the others. */
export interface NamedRun {
  readonly label: string;
  readonly run: RunData;
}

/** Labels of runs: their folder names, longer from the end of the path where two are alike. */
export function labelRuns(runs: readonly RunData[]): NamedRun[] {
  const parts = runs.map(({ path }) => path.split(/[\\/]+/).filter((part) => part !== '' && part !== '.'));
  return runs.map((run, index) => {
    const own = parts[index] ?? [];
    for (let count = 1; count < own.length; count++) {
      const label = own.slice(-count).join('/');
      if (parts.every((other, place) => place === index || other.slice(-count).join('/') !== label)) return { label, run };
    }
    return { label: run.path, run };
  });
}

/** One page that lays the curves of several runs over each other. */
export function renderComparePage(runs: readonly NamedRun[]): string {
  const charts = compareCharts(runs).map((chart, index) => renderChart(chart, `chart-${index}`));
  const differences = recipeDifferences(runs.map(({ run }) => run.recipe));
  const columns = runs.map(({ label }) => ({ title: label }));
  const body = [
    `<header><h1>${runs.length} runs</h1><p>${escapeHtml([...new Set(runs.map(({ run }) => modelOf(run)))].join('; '))}</p></header>`,
    `<section><div class="card">${numbersTable(runs)}</div></section>`,
    `<section><h2>Curves</h2><div class="charts">${charts.join('\n')}</div></section>`,
    '<section><h2>What differs between the recipes</h2><div class="card">',
    differences.length === 0
      ? '<p class="soft">Nothing.</p>'
      : table(
          [{ title: 'key' }, ...columns],
          differences.map(({ key, values }) => [
            `<code>${escapeHtml(key)}</code>`,
            ...values.map((value) => escapeHtml(value === undefined ? '–' : JSON.stringify(value))),
          ]),
          'Keys of the recipes whose values differ',
        ),
    '</div></section>',
    `<footer><p>${runs.map(({ label, run }) => `${escapeHtml(label)}: ${escapeHtml(run.path)}`).join('<br>')}</p></footer>`,
  ].join('\n');
  return renderPage({ title: `${runs.map(({ label }) => label).join(', ')} · comparison`, body });
}

function compareCharts(runs: readonly NamedRun[]): Chart[] {
  const curves = (read: (run: RunData) => Point[], look?: Series['look']): Series[] =>
    runs.map(({ label, run }, index) => ({ label, points: read(run), color: index % kColors, ...(look === undefined ? {} : { look }) }));
  const smooth = (read: (run: RunData) => Point[]) => (run: RunData) => averaged(read(run));
  const unit = runs.every(({ run }) => run.recipe.task === undefined) ? 'nats per token' : 'mean over targets';
  return [
    { title: 'Training loss', unit, note: 'Moving average.', wide: true, series: curves(smooth(lossPoints)) },
    { title: 'Held-out loss', unit, wide: true, series: curves(evaluationPoints, 'marked') },
    { title: 'Learning rate', unit: 'after warm-up and schedule', fromZero: true, series: curves(ratePoints) },
    {
      title: 'Gradient norm',
      unit: 'global norm before clipping',
      note: 'Moving average.',
      fromZero: true,
      mayBeLog: true,
      series: curves(smooth(normPoints)),
    },
    {
      title: 'Throughput',
      unit: 'tokens per second',
      note: 'Moving average.',
      fromZero: true,
      format: formatSpeed,
      series: curves(smooth(speedPoints)),
    },
    {
      title: 'Memory',
      unit: 'bytes of tensors, peak so far',
      fromZero: true,
      format: formatMemory,
      binary: true,
      series: curves(peakPoints),
    },
  ];
}

interface NumberColumn {
  readonly title: string;
  readonly read: (summary: RunSummary) => number | undefined;
  readonly format: (value: number) => string;
  /** Which value is set off as the best; none where it says nothing. */
  readonly best?: 'lowest' | 'highest';
}

/** Columns of runs that these metrics decide, by name; the loss decides where there are none. */
const columnsOf = (deciding: ReadonlyMap<string, DecidingMeasure>): readonly NumberColumn[] => [
  { title: 'steps', read: ({ steps }) => steps, format: (value) => formatNumber(value, 9) },
  { title: 'loss', read: ({ loss }) => loss, format: (value) => value.toFixed(4), best: 'lowest' },
  { title: 'mean of last tenth', read: ({ recentLoss }) => recentLoss, format: (value) => value.toFixed(4), best: 'lowest' },
  { title: 'held-out loss', read: ({ evalLoss }) => evalLoss, format: (value) => value.toFixed(4), best: 'lowest' },
  ...(deciding.size > 0
    ? [...deciding.values()].map(
        ({ name, higher }): NumberColumn => ({
          title: `best held-out ${name}`,
          read: ({ best }) => best?.evalMetrics?.[name],
          format: (value) => value.toFixed(4),
          best: higher ? 'highest' : 'lowest',
        }),
      )
    : [
        {
          title: 'best held-out',
          read: ({ best }: RunSummary) => best?.evalLoss,
          format: (value: number) => value.toFixed(4),
          best: 'lowest',
        } as const,
      ]),
  { title: 'at step', read: ({ best }) => best?.step, format: (value) => formatNumber(value, 9) },
  { title: 'tokens', read: ({ tokens }) => tokens, format: formatCount },
  { title: 'tokens/s', read: ({ tokensPerSecond }) => tokensPerSecond, format: formatCount, best: 'highest' },
  { title: 'time', read: ({ seconds }) => seconds, format: formatSeconds },
  { title: 'peak memory', read: ({ peakBytes }) => peakBytes, format: formatBytes, best: 'lowest' },
  { title: 'trainable', read: ({ trainableParameters }) => trainableParameters, format: formatCount },
];

function numbersTable(runs: readonly NamedRun[]): string {
  const summaries = runs.map(({ run }) => summarize(run));
  const deciding = runs.map(({ run }) => decidingMetric(run)).filter((measure) => measure !== undefined);
  const columns = columnsOf(new Map(deciding.map((measure) => [measure.name, measure])));
  const shown = columns.filter(({ read }) => summaries.some((summary) => read(summary) !== undefined));
  const winners = shown.map(({ read, best }) => {
    const values = summaries.map(read).filter((value) => value !== undefined);
    if (best === undefined || new Set(values).size < 2) return undefined;
    return best === 'lowest' ? Math.min(...values) : Math.max(...values);
  });
  const rows = runs.map(({ label, run }, index) => {
    const cells = shown.map(({ read, format }, column) => {
      const value = read(summaries[index] as RunSummary);
      if (value === undefined) return '–';
      return value === winners[column] ? `<b>${format(value)}</b>` : format(value);
    });
    return [`<i class="key c${index % kColors}"></i>${escapeHtml(label)}`, statusPill(run.status), ...cells];
  });
  return table(
    [{ title: 'run' }, { title: 'state' }, ...shown.map(({ title }) => ({ title, numeric: true }))],
    rows,
    'Final numbers of the runs',
  );
}
