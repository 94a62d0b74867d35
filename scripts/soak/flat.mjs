// Whether a series of measurements is flat: medians of quarters, which a few odd measurements do not move.

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Median of the slopes between all pairs of measurements (Theil and Sen): growth a measurement, whatever up to a quarter of them do. */
export function slope(values) {
  const slopes = [];
  for (let i = 0; i < values.length; i++) for (let j = i + 1; j < values.length; j++) slopes.push((values[j] - values[i]) / (j - i));
  return slopes.length === 0 ? 0 : median(slopes);
}

/** At most `most` measurements evenly spread over a series, so that pairs stay few. */
export function thinned(values, most = 400) {
  if (values.length <= most) return values;
  return Array.from({ length: most }, (_, i) => values[Math.floor((i * values.length) / most)]);
}

/**
 * Growth over the second half of a series, by two estimates: last quarter against third quarter (medians), and the slope times the length. A leak shows in
 * both; one jump, or noise, in at most one. The smaller one is the growth.
 */
export function growth(values) {
  const half = values.slice(Math.floor(values.length / 2));
  const middle = Math.floor(half.length / 2);
  const step = median(half.slice(middle)) - median(half.slice(0, middle));
  const even = thinned(half);
  return Math.min(2 * step, slope(even) * (even.length - 1));
}
