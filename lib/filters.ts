/** How values between samples are made: the sample that is nearest, or a kernel that widens where samples become fewer, as in Pillow. */
export type Filter = 'nearest' | 'linear' | 'cubic' | 'lanczos';

/** What old samples count for in a new one: those from `first` on. */
export interface FilterRow {
  readonly first: number;
  /** They add up to 1. */
  readonly weights: Float64Array;
}

interface Kernel {
  /** Distance from which on it is 0. */
  readonly reach: number;
  readonly at: (x: number) => number;
}

const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

/** The cubic convolution kernel of Keys, by its slope at 1. */
export function cubicKernel(distance: number, slope: number): number {
  const x = Math.abs(distance);
  if (x < 1) return ((slope + 2) * x - (slope + 3)) * x * x + 1;
  return x < 2 ? slope * (((x - 5) * x + 8) * x - 4) : 0;
}

const kernels: Readonly<Record<Exclude<Filter, 'nearest'>, Kernel>> = {
  linear: { reach: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  cubic: { reach: 2, at: (x) => cubicKernel(x, -0.5) },
  lanczos: { reach: 3, at: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** One row for each of `to` new samples in the place of `from` old ones. What lies outside counts for nothing. */
export function filterRows(from: number, to: number, filter: Filter): FilterRow[] {
  const scale = from / to;
  return Array.from({ length: to }, (_, i) => {
    const center = (i + 0.5) * scale;
    return filter === 'nearest'
      ? { first: Math.floor(center), weights: Float64Array.of(1) }
      : row(center, Math.max(scale, 1), from, kernels[filter]);
  });
}

function row(center: number, width: number, from: number, { reach, at }: Kernel): FilterRow {
  const first = Math.max(0, Math.trunc(center - reach * width + 0.5));
  const end = Math.min(from, Math.trunc(center + reach * width + 0.5));
  const weights = Float64Array.from({ length: end - first }, (_, j) => at((first + j - center + 0.5) / width));
  const total = weights.reduce((sum, value) => sum + value, 0);
  return { first, weights: weights.map((value) => value / total) };
}
