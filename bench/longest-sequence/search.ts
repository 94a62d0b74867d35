/** Peak memory of a step of that length. */
export interface LengthPoint {
  readonly seq: number;
  readonly megabytes: number;
}

export interface SearchOptions {
  /** Megabytes that must not be exceeded. */
  readonly limit: number;
  /** No longer sequence is tried. */
  readonly longest: number;
  /** Lengths tried after the first two. */
  readonly probes: number;
}

export interface SearchResult {
  readonly points: readonly LengthPoint[];
  /** Longest length that was tried and kept to the limit; 0 where none did. */
  readonly measured: number;
  /** Where the line through the two longest lengths tried meets the limit. */
  readonly predicted: number;
}

/** Lengths are multiples of this. */
const kGrain = 1024;

/** Memory grows by so much a token once a step is long: tries the length at which a line through the last two meets the limit. */
export function longestSequence({ limit, longest, probes }: SearchOptions, measure: (seq: number) => LengthPoint): SearchResult {
  const points = [measure(kGrain), measure(2 * kGrain)];
  for (let probe = 0; probe < probes; probe++) {
    const next = Math.max(kGrain, Math.min(longest, whereLimitIs(points, limit)));
    if (points.some(({ seq }) => seq === next)) break;
    points.push(measure(next));
  }
  const within = points.filter(({ megabytes }) => megabytes <= limit).map(({ seq }) => seq);
  return { points, measured: Math.max(0, ...within), predicted: whereLimitIs(points, limit) };
}

function whereLimitIs(points: readonly LengthPoint[], limit: number): number {
  const [a, b] = [...points].sort((one, other) => one.seq - other.seq).slice(-2) as [LengthPoint, LengthPoint];
  const slope = (b.megabytes - a.megabytes) / (b.seq - a.seq);
  const tokens = slope <= 0 ? Number.POSITIVE_INFINITY : a.seq + (limit - a.megabytes) / slope;
  return Math.floor(Math.min(tokens, 2 ** 30) / kGrain) * kGrain;
}
