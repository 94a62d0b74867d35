/** How values lie along an axis: `place` maps the domain to 0 (start) … 1 (end). */
export interface Scale {
  readonly domain: readonly [number, number];
  readonly ticks: readonly number[];
  readonly log: boolean;
  place(value: number): number;
}

/** About `count` round ticks from `low` to `high`; `unit` is what they are round multiples of. A single value gets room around it. */
export function linearScale(low: number, high: number, count: number, unit = 1): Scale {
  const [from, to] = low < high ? [low, high] : [low - (Math.abs(low) * 0.1 || 1), high + (Math.abs(high) * 0.1 || 1)];
  const step = roundStep((to - from) / count / unit) * unit;
  // A bound that is a tick but for rounding counts as one.
  const first = Math.ceil(from / step - 1e-9);
  const last = Math.floor(to / step + 1e-9);
  const ticks = Array.from({ length: last - first + 1 }, (_, index) => round((first + index) * step));
  return { domain: [from, to], ticks, log: false, place: (value) => (value - from) / (to - from) };
}

/** Powers of ten, and of few of them also 2 and 5 in between, from below `low` (positive) to above `high`. */
export function logScale(low: number, high: number): Scale {
  const first = Math.floor(Math.log10(low));
  const last = Math.max(first + 1, Math.ceil(Math.log10(high)));
  const decades = last - first;
  const every = Math.ceil(decades / 6);
  const ticks: number[] = [];
  for (let power = first; power <= last; power++) {
    if ((power - first) % every !== 0) continue;
    ticks.push(round(10 ** power));
    if (decades <= 2 && power < last) ticks.push(round(2 * 10 ** power), round(5 * 10 ** power));
  }
  return {
    domain: [10 ** first, 10 ** last],
    ticks,
    log: true,
    place: (value) => (Math.log10(Math.max(value, 10 ** first)) - first) / decades,
  };
}

/** 1, 2 or 5 times a power of ten, not far below `wanted`. */
function roundStep(wanted: number): number {
  const power = 10 ** Math.floor(Math.log10(wanted));
  return ([1, 2, 5].find((factor) => factor * power >= wanted * 0.8) ?? 10) * power;
}

/** Without the noise of binary fractions: 0.30000000000000004 is 0.3. */
function round(value: number): number {
  return Number(value.toPrecision(12));
}

/** The shortest text for a tick or a value: `0.35`, `12,000`, `2e-5`. */
export function formatNumber(value: number, digits = 4): string {
  const size = Math.abs(value);
  if (value === 0 || !Number.isFinite(value)) return String(value);
  if (size < 1e-3 || size >= 1e9)
    return value
      .toExponential(digits - 1)
      .replace(/\.?0+e/, 'e')
      .replace('e+', 'e');
  return Number(value.toPrecision(size >= 1e4 ? Math.max(digits, Math.ceil(Math.log10(size))) : digits)).toLocaleString('en-US', {
    maximumFractionDigits: 9,
  });
}
