/** A point of a curve: x is a step. */
export type Point = readonly [x: number, y: number];

/**
 * At most `2 * buckets` of the points, in order: the lowest and the highest of each stretch, so that no spike is lost. Values that are not finite are left
 * out.
 */
export function thin(points: readonly Point[], buckets: number): Point[] {
  const finite = points.filter(([, y]) => Number.isFinite(y));
  if (finite.length <= 2 * buckets) return finite;
  return Array.from({ length: buckets }, (_, bucket) => {
    const stretch = finite.slice(Math.floor((bucket * finite.length) / buckets), Math.floor(((bucket + 1) * finite.length) / buckets));
    const low = stretch.reduce((a, b) => (b[1] < a[1] ? b : a));
    const high = stretch.reduce((a, b) => (b[1] > a[1] ? b : a));
    return low === high ? [low] : low[0] < high[0] ? [low, high] : [high, low];
  }).flat();
}

/** At most `count` of the points, evenly, the first and the last among them. */
export function sampled(points: readonly Point[], count: number): Point[] {
  if (points.length <= count) return [...points];
  return Array.from({ length: count }, (_, index) => points[Math.round((index * (points.length - 1)) / (count - 1))] as Point);
}

/** Exponential moving average over about `span` points, without the pull of a starting value. */
export function smoothed(points: readonly Point[], span: number): Point[] {
  const keep = 1 - 1 / Math.max(1, span);
  let total = 0;
  let weight = 0;
  return points.map(([x, y]) => {
    total = keep * total + y;
    weight = keep * weight + 1;
    return [x, total / weight];
  });
}

/** The upper median; NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}
