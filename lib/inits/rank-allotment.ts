/** A layer and what each of its possible components explains. */
interface AllotmentLayer {
  readonly path: string;
  /** Share of each component in the variance of the layer's input, largest first: as many as the layer may get. */
  readonly ratios: readonly number[];
}

/**
 * Gives a budget of components to layers: the largest ratios of all layers first, of equal ones those of the layer that comes first. A layer may get none. Of layers
 * with the same ratios the first one never gets fewer.
 */
export function allotRanks(layers: readonly AllotmentLayer[], budget: number): Map<string, number> {
  const entries = layers.flatMap(({ path, ratios }) => ratios.map((ratio) => ({ path, ratio })));
  const ranks = new Map(layers.map(({ path }) => [path, 0]));
  for (const { path } of entries.sort((a, b) => b.ratio - a.ratio).slice(0, budget)) ranks.set(path, (ranks.get(path) ?? 0) + 1);
  return ranks;
}

/** The most components a layer may get: rank times factor, halves to even. */
export function mostComponents(rank: number, factor: number): number {
  const most = Math.round(rank * factor);
  return most - rank * factor === 0.5 && most % 2 === 1 ? most - 1 : most;
}
