import { formatBytes, formatCount, formatSeconds } from '../format.js';
import type { BestState } from '../train/run.js';
import { renderChart } from './chart.js';
import type { RunEnvironment } from './environment.js';
import { eventFiles } from './event-file.js';
import { escapeHtml, factTable } from './html.js';
import { renderPage } from './page.js';
import type { RunData } from './read-run.js';
import { runCharts } from './run-charts.js';
import type { RunSample } from './run-record.js';
import { formatNumber } from './scale.js';
import { bestMeasure, decidingMetric, type RunSummary, summarize } from './summary.js';

/** Seconds after which the page of a running run loads itself again. */
const kRefreshSeconds = 20;

const kStatusText: Readonly<Record<RunData['status'], string>> = {
  running: 'running',
  done: 'done',
  cancelled: 'cancelled, can be resumed',
  failed: 'failed',
  killed: 'interrupted, can be resumed',
  unknown: 'state unknown',
};

/** `report.html` of a run folder. */
export function renderRunPage(run: RunData): string {
  const { name, record, status, problems } = run;
  const summary = summarize(run);
  const charts = runCharts(run).map((chart, index) => renderChart(chart, `chart-${index}`));
  const body = [
    `<header><h1>${escapeHtml(name)}</h1>${statusPill(status)}<p>${escapeHtml(subtitle(run))}</p></header>`,
    ...(record?.error === undefined ? [] : [`<p class="notice">${escapeHtml(record.error)}</p>`]),
    ...policyNotices(summary).map((notice) => `<p class="notice">${escapeHtml(notice)}</p>`),
    ...problems.map((problem) => `<p class="notice">${escapeHtml(problem)}</p>`),
    tiles(run, summary),
    charts.some((chart) => chart !== '')
      ? `<section><h2>Curves</h2><div class="charts">${charts.join('\n')}</div></section>`
      : '<p class="soft">No step is done yet.</p>',
    samplesSection(record?.samples ?? []),
    `<div class="columns"><section><h2>Final numbers</h2><div class="card">${factTable(numberFacts(run, summary))}</div>${
      record === undefined ? '' : `<h2>Environment</h2><div class="card">${factTable(environmentFacts(record.environment))}</div>`
    }</section>
<section><h2>Recipe</h2><div class="card"><pre>${highlightYaml(run.recipeText)}</pre></div></section></div>`,
    `<footer><p>${escapeHtml(footer(run))}</p></footer>`,
  ].join('\n');
  return renderPage({ title: `${name} · training run`, body, ...(status === 'running' ? { refreshSeconds: kRefreshSeconds } : {}) });
}

export function statusPill(status: RunData['status']): string {
  return `<span class="status ${status}">${kStatusText[status]}</span>`;
}

/** Model and dtype: `smollm2 · bf16`. */
export function modelOf({ recipe }: RunData): string {
  const dtype = recipe.dtype as string | { type?: string } | null | undefined;
  return [recipe.model, typeof dtype === 'object' ? dtype?.type : dtype].filter((part) => part !== undefined).join(' · ');
}

/** The adapter in a few words: `lora, rank 16`, or the folder it came from. */
function adapterOf({ recipe }: RunData): string {
  const adapter = recipe.adapter as string | { type?: string; rank?: number } | null | undefined;
  if (typeof adapter !== 'object' || adapter === null) return adapter ?? '';
  return `${adapter.type ?? 'adapter'}${adapter.rank === undefined ? '' : `, rank ${adapter.rank}`}`;
}

function subtitle(run: RunData): string {
  const { record } = run;
  const times = record === undefined ? [] : [`started ${readableTime(record.started)}`, `written ${readableTime(record.updated)}`];
  return [modelOf(run), adapterOf(run), ...times].filter((part) => part !== '').join(' · ');
}

const readableTime = (iso: string): string => `${iso.slice(0, 16).replace('T', ' ')} UTC`;

/** What policies did to the run. */
function policyNotices({ skippedSteps, stoppedEarly, steps }: RunSummary): string[] {
  return [
    ...(stoppedEarly === undefined ? [] : [`Stopped early after step ${steps}: ${stoppedEarly}.`]),
    ...(skippedSteps === 0 ? [] : [`${skippedSteps} ${skippedSteps === 1 ? 'step' : 'steps'} skipped: see "skipped" in metrics.jsonl.`]),
  ];
}

function tiles(run: RunData, summary: RunSummary): string {
  const { steps, plannedSteps, loss, best, tokens, tokensPerSecond, seconds, peakBytes, trainableParameters } = summary;
  const shown: [string, string][] = [
    ['Training loss', loss === undefined ? '–' : loss.toFixed(4)],
    ...(best === undefined ? [] : [bestTile(run, best)]),
    [
      'Steps',
      plannedSteps === undefined || plannedSteps === steps
        ? formatNumber(steps, 9)
        : `${formatNumber(steps, 9)} of ${formatNumber(plannedSteps, 9)}`,
    ],
    ['Tokens', formatCount(tokens)],
    ['Tokens per second', formatCount(tokensPerSecond)],
    ['Time in steps', formatSeconds(seconds)],
    ...(peakBytes === undefined ? [] : ([['Peak memory of tensors', formatBytes(peakBytes)]] as [string, string][])),
    ...(trainableParameters === undefined ? [] : ([['Trainable parameters', formatCount(trainableParameters)]] as [string, string][])),
  ];
  return `<ul class="tiles">${shown.map(([name, value]) => `<li><span>${escapeHtml(name)}</span><b>${escapeHtml(value)}</b></li>`).join('')}</ul>`;
}

function bestTile(run: RunData, best: BestState): [string, string] {
  const { name, value } = bestMeasure(run, best);
  return [`Held-out ${name}, best at step ${best.step}`, value.toFixed(4)];
}

/** The numbers of the best state, and of what decides that it is. */
function bestFacts(run: RunData, best: BestState): [string, string][] {
  const { name, value } = bestMeasure(run, best);
  const at = `at step ${best.step}`;
  if (name === 'loss') return [['held-out loss, best', `${value.toFixed(6)} ${at}`]];
  return [[`held-out ${name}, best`, `${value.toFixed(6)} ${at} (loss ${best.evalLoss.toFixed(6)})`]];
}

function numberFacts(run: RunData, summary: RunSummary): [string, string][] {
  const {
    steps,
    loss,
    recentLoss,
    evalLoss,
    evalMetrics = {},
    best,
    tokens,
    tokensPerSecond,
    seconds,
    peakBytes,
    trainableParameters,
  } = summary;
  const exact = (value: number) => formatNumber(value, 15);
  const isTask = run.recipe.task !== undefined;
  return [
    ['steps', exact(steps)],
    ...(loss === undefined ? [] : [['loss of the last step', loss.toFixed(6)] as [string, string]]),
    ...(recentLoss === undefined ? [] : [['mean loss of the last tenth', recentLoss.toFixed(6)] as [string, string]]),
    ...(evalLoss === undefined
      ? []
      : [
          ['held-out loss, last', `${evalLoss.toFixed(6)}${isTask ? '' : ` (perplexity ${formatNumber(Math.exp(evalLoss))})`}`] as [
            string,
            string,
          ],
        ]),
    ...Object.entries(evalMetrics).map(([name, value]): [string, string] => [`held-out ${name}, last`, value.toFixed(6)]),
    ...(best === undefined ? [] : bestFacts(run, best)),
    ['tokens', exact(tokens)],
    ['tokens per second', formatNumber(tokensPerSecond)],
    ['time in steps', formatSeconds(seconds)],
    ...(peakBytes === undefined
      ? []
      : [['peak memory of tensors', `${formatBytes(peakBytes)} (${exact(peakBytes)} bytes)`] as [string, string]]),
    ...(trainableParameters === undefined ? [] : [['trainable parameters', exact(trainableParameters)] as [string, string]]),
  ];
}

function environmentFacts(environment: RunEnvironment): [string, string][] {
  const { cpu, logicalCpus, isaLevel, threads, memoryBytes, system, node, lorikeet } = environment;
  const facts: [string, string][] = [
    ['processor', `${cpu}, ${logicalCpus} logical CPUs`],
    ['kernels', isaLevel],
    ['threads', String(threads)],
    ['memory', formatBytes(memoryBytes)],
    ['system', system],
    ['Node', node],
    ['lorikeet', lorikeet],
  ];
  return facts.map(([name, value]) => [name, escapeHtml(value)]);
}

function samplesSection(samples: readonly RunSample[]): string {
  if (samples.length === 0) return '';
  const side = (title: string, text: string | undefined) =>
    `<div><h3>${title}</h3><p class="text">${text === undefined ? '<span class="soft">not there yet</span>' : text.trim() === '' ? '<span class="soft">(nothing)</span>' : escapeHtml(text.trim())}</p></div>`;
  const cards = samples.map(
    ({ prompt, before, after }) =>
      `<div class="card sample"><p class="prompt">${escapeHtml(prompt)}</p><div class="columns">${side('Before training', before)}${side('After training', after)}</div></div>`,
  );
  return `<section><h2>Samples</h2>${cards.join('\n')}</section>`;
}

/** YAML with its keys set off. */
function highlightYaml(text: string): string {
  return escapeHtml(text.trimEnd()).replaceAll(/^(\s*(?:- )?)([\w.-]+)(?=:)/gm, '$1<span class="k">$2</span>');
}

function footer(run: RunData): string {
  const { path } = run;
  const events =
    eventFiles(path).length > 0 ? ` The same curves are in the TensorBoard events beside this file: tensorboard --logdir ${path}.` : '';
  return `Values of every step: metrics.jsonl. The adapter: adapter/, the best one by held-out ${decidingMetric(run)?.name ?? 'loss'}: best/.${events}`;
}
