// Curves as a drawing of their own (SVG), for the docs.
import { linearScale } from '#dist/report/scale.js';

export interface PictureSeries {
  readonly label: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface Panel {
  readonly title: string;
  readonly series: readonly PictureSeries[];
}

const kWidth = 520;
const kHeight = 340;
const kLeft = 52;
const kTop = 36;
const kPlotWidth = kWidth - kLeft - 16;
const kPlotHeight = kHeight - kTop - 44;
const kLegendRow = 20;
/** Colours that the eye tells apart, also where red and green look alike (Okabe and Ito), and grey. */
const kColors = ['#000000', '#0072b2', '#56b4e9', '#d55e00', '#009e73', '#88ccaa', '#cc79a7', '#e69f00', '#999999', '#5d3a9b'];

const number = (value: number): string => String(Math.round(value * 100) / 100);

/** Panels side by side with one legend below. Every panel has the same series. */
export function picture(panels: readonly Panel[], axis: { readonly x: string; readonly y: string }): string {
  const labels = [...new Set(panels.flatMap(({ series }) => series.map(({ label }) => label)))];
  const columns = Math.max(1, Math.floor((panels.length * kWidth) / 130));
  const legend = labels.map((label, i) => {
    const x = 20 + 130 * (i % columns);
    const y = kHeight + 14 + kLegendRow * Math.floor(i / columns);
    return `<path d="M${x} ${y}h24" stroke="${colorOf(i)}" stroke-width="2.5"/><text x="${x + 30}" y="${y + 4}">${label}</text>`;
  });
  const height = kHeight + kLegendRow * Math.ceil(labels.length / columns) + 10;
  const width = kWidth * panels.length;
  const drawn = panels.map((panel, i) => `<g transform="translate(${i * kWidth} 0)">${drawPanel(panel, labels, axis)}</g>`);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12" fill="#333">
<rect width="${width}" height="${height}" fill="#fff"/>
${drawn.join('\n')}
${legend.join('\n')}
</svg>
`;
}

const colorOf = (index: number): string => kColors[index % kColors.length] as string;

function drawPanel({ title, series }: Panel, labels: readonly string[], axis: { readonly x: string; readonly y: string }): string {
  const points = series.flatMap((each) => each.points);
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  const x = linearScale(Math.min(...xs), Math.max(...xs), 5);
  const y = linearScale(Math.min(...ys), Math.max(...ys), 6);
  const left = (value: number): string => number(kLeft + x.place(value) * kPlotWidth);
  const down = (value: number): string => number(kTop + (1 - y.place(value)) * kPlotHeight);
  const grid = y.ticks.map(
    (tick) =>
      `<path d="M${kLeft} ${down(tick)}h${kPlotWidth}" stroke="#ddd"/>` +
      `<text x="${kLeft - 6}" y="${Number(down(tick)) + 4}" text-anchor="end">${number(tick)}</text>`,
  );
  const ticks = x.ticks.map((tick) => `<text x="${left(tick)}" y="${kTop + kPlotHeight + 16}" text-anchor="middle">${number(tick)}</text>`);
  const lines = series.map(({ label, points: own }) => {
    const path = own.map(([a, b]) => `${left(a)} ${down(b)}`).join('L');
    return `<path d="M${path}" fill="none" stroke="${colorOf(labels.indexOf(label))}" stroke-width="1.8"/>`;
  });
  return `<text x="${kLeft}" y="20" font-size="14" font-weight="bold">${title}</text>
${grid.join('')}${ticks.join('')}
${lines.join('\n')}
<text x="${kLeft + kPlotWidth / 2}" y="${kTop + kPlotHeight + 34}" text-anchor="middle">${axis.x}</text>
<text transform="translate(14 ${kTop + kPlotHeight / 2}) rotate(-90)" text-anchor="middle">${axis.y}</text>`;
}
