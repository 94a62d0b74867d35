import { escapeHtml, escapeJson, table } from './html.js';
import { formatNumber, linearScale, logScale, type Scale } from './scale.js';
import { median, type Point, sampled, thin } from './series.js';

/** One curve of a chart. */
export interface Series {
  readonly label: string;
  readonly points: readonly Point[];
  /** Which of the eight colours, from 0. */
  readonly color: number;
  /** `faint` is for the values behind a smoothed line; `marked` shows each point. */
  readonly look?: 'line' | 'faint' | 'marked' | 'dashed';
}

export interface Chart {
  readonly title: string;
  /** What y is, with its unit. */
  readonly unit: string;
  readonly series: readonly Series[];
  /** Values for ticks and read-outs; default: four digits. */
  readonly format?: (value: number) => string;
  /** Include 0 on the y axis. */
  readonly fromZero?: boolean;
  /** Use a logarithmic y axis where values spread over more than a factor of 20 above their median. */
  readonly mayBeLog?: boolean;
  /** Ticks at round multiples of binary units. */
  readonly binary?: boolean;
  /** The whole width of the page. */
  readonly wide?: boolean;
  /** A sentence under the title. */
  readonly note?: string;
}

/** Stretches of which a curve keeps the lowest and highest value, and rows of the table beside a chart. */
const kBuckets = 400;
const kTableRows = 40;
/** Units of the drawing; it is stretched to the size of its place, lines and labels are not. */
const kWidth = 1000;
const kHeight = 400;

/**
 * A chart as a figure of HTML and inline SVG. Labels are HTML beside a drawing that stretches, so that text has its size at any width; without scripts all is
 * there but the read-out under the pointer. The values are also in a folded table.
 */
export function renderChart(chart: Chart, id: string): string {
  const drawn = chart.series
    .map((series) => ({ ...series, points: thin(series.points, kBuckets) }))
    .filter(({ points }) => points.length > 0);
  const { format = formatNumber } = chart;
  if (drawn.length === 0) return '';
  const all = drawn.flatMap(({ points }) => points);
  const x = linearScale(least(all.map(([step]) => step)), most(all.map(([step]) => step)), 5);
  const y = yScale(
    chart,
    all.map(([, value]) => value),
  );
  const note = [chart.note ?? '', y.log ? 'Logarithmic axis.' : ''].filter((text) => text !== '').join(' ');
  const legend = drawn.length < 2 ? '' : `<ul class="legend">${drawn.map(legendItem).join('')}</ul>`;
  const data = drawn.map(({ label, points, color, look = 'line' }) => ({
    label,
    color,
    look,
    points: points.map(([a, b]) => [a, format(b), y.place(b)]),
  }));
  return `<figure class="chart${chart.wide ? ' wide' : ''}" id="${id}">
<figcaption><h3>${escapeHtml(chart.title)}</h3><p>${escapeHtml(chart.unit)}${note === '' ? '' : ` · ${escapeHtml(note)}`}</p></figcaption>${legend}
<div class="plot" tabindex="0" role="group" aria-label="${escapeHtml(chart.title)}: read values with the left and right arrow keys">
<div class="ylabels" aria-hidden="true">${y.ticks.map((tick) => `<span style="bottom:${percent(y.place(tick))}">${escapeHtml(format(tick))}</span>`).join('')}</div>
<div class="area" data-domain="${x.domain.join(' ')}">
<svg viewBox="0 0 ${kWidth} ${kHeight}" preserveAspectRatio="none" role="img" aria-label="${escapeHtml(spoken(chart, drawn, format))}">
<path class="grid" d="${y.ticks.map((tick) => `M0 ${unitsDown(y, tick)}H${kWidth}`).join('')}"/>
${drawn.map((series) => paths(series, x, y)).join('\n')}
</svg></div>
<div class="xlabels" aria-hidden="true">${xTicks(x)
    .map((tick) => `<span style="left:${percent(x.place(tick))}">${escapeHtml(formatNumber(tick, 6))}</span>`)
    .join('')}</div>
</div>
<details><summary>Values as a table</summary>${valuesTable(chart, format)}</details>
<script type="application/json">${escapeJson(data)}</script>
</figure>`;
}

function yScale({ fromZero = false, mayBeLog = false, binary = false, wide = false }: Chart, values: readonly number[]): Scale {
  const [low, high] = [least(values), most(values)];
  if (mayBeLog && low > 0 && high > 20 * median(values)) return logScale(low, high);
  const room = (high - low) * 0.04;
  const unit = binary ? 1024 ** Math.max(0, Math.floor(Math.log2(Math.max(1, high)) / 10)) : 1;
  return linearScale(fromZero ? Math.min(0, low) : low - room, high + room, wide ? 6 : 4, unit);
}

/** Steps are whole: ticks between them, which very short runs would get, are left out. */
function xTicks({ ticks, domain }: Scale): readonly number[] {
  const whole = ticks.filter((tick) => Number.isInteger(tick));
  return domain[0] === 1 && !whole.includes(1) && whole[0] !== 2 ? [1, ...whole] : whole;
}

function legendItem({ label, color, look = 'line' }: Series): string {
  return `<li><i class="key ${look} c${color}"></i>${escapeHtml(label)}</li>`;
}

function paths({ points, color, look = 'line' }: Series, x: Scale, y: Scale): string {
  const at = ([step, value]: Point): string => `${trim(x.place(step) * kWidth)} ${unitsDown(y, value)}`;
  const line = points.length < 2 ? '' : `<path class="line ${look} c${color}" d="M${points.map(at).join('L')}"/>`;
  // Points are lines of no length with round ends: circles would be stretched with the drawing.
  const marks = look === 'marked' || points.length === 1 ? points.map((point) => `M${at(point)}h.01`).join('') : '';
  return line + (marks === '' ? '' : `<path class="marks c${color}" d="${marks}"/>`);
}

const unitsDown = (y: Scale, value: number): string => trim((1 - y.place(value)) * kHeight);
const trim = (value: number): string => String(Math.round(value * 10) / 10);
const percent = (part: number): string => `${Math.round(part * 1e4) / 100}%`;

/** What a chart shows, in words. */
function spoken({ title, unit }: Chart, drawn: readonly Series[], format: (value: number) => string): string {
  const told = drawn
    .filter(({ look }) => look !== 'faint' || drawn.length === 1)
    .map(({ label, points }) => {
      const values = points.map(([, value]) => value);
      const [first, last] = [points[0] as Point, points.at(-1) as Point];
      return `${label}: from ${format(first[1])} at step ${first[0]} to ${format(last[1])} at step ${last[0]}, lowest ${format(least(values))}, highest ${format(most(values))}`;
    });
  return `Line chart: ${title} (${unit}) over steps. ${told.join('. ')}.`;
}

function valuesTable({ series, title }: Chart, format: (value: number) => string): string {
  const columns = series.filter(({ look, points }) => look !== 'dashed' && points.length > 0);
  const steps = [...new Set(columns.flatMap(({ points }) => sampled(points, kTableRows).map(([step]) => step)))].sort((a, b) => a - b);
  const shown = sampled(
    steps.map((step) => [step, step] as const),
    2 * kTableRows,
  ).map(([step]) => step);
  const values = columns.map(({ points }) => new Map(points));
  const rows = shown.map((step) => [
    formatNumber(step, 9),
    ...values.map((column) => {
      const value = column.get(step);
      return value === undefined ? '' : escapeHtml(format(value));
    }),
  ]);
  return table([{ title: 'step', numeric: true }, ...columns.map(({ label }) => ({ title: label, numeric: true }))], rows, title);
}

function least(values: readonly number[]): number {
  return values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
}

function most(values: readonly number[]): number {
  return values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
}
