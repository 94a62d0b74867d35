import type { Combination } from './options.js';

/** The values of one adapter with its weight, of the same length for all adapters, in the same order. */
export interface TaskVector {
  readonly values: Float32Array | Float64Array;
  readonly weight: number;
  /** A uniform number in [0, 1) per value, where the combination prunes at random. */
  readonly chances?: Float32Array | Float64Array | undefined;
}

type Floats = Float32Array | Float64Array;

/** The `density` share of largest values by size; among equal ones the first. The others become 0. */
export function keepLargest(values: Floats, density: number): Floats {
  const kept = Math.floor(density * values.length);
  if (kept >= values.length) return values;
  const sizes = values.map(Math.abs);
  const limit = kept === 0 ? Number.POSITIVE_INFINITY : (sizes.slice().sort()[values.length - kept] ?? 0);
  let atLimit = kept;
  for (const size of sizes) if (size > limit) atLimit--;
  return values.map((value, i) => {
    const size = sizes[i] ?? 0;
    return size > limit || (size === limit && atLimit-- > 0) ? value : 0;
  });
}

/** Each value with probability `density`, divided by it; the others become 0. */
export function keepByChance(values: Floats, chances: Floats, density: number): Floats {
  if (density >= 1) return values;
  return values.map((value, i) => ((chances[i] ?? 1) < density ? value / density : 0));
}

function pruned({ values, chances }: TaskVector, { prune, density, type }: Combination): Floats {
  if (prune === 'none') return values;
  if (prune === 'magnitude') return keepLargest(values, density);
  if (chances === undefined) throw new Error(`combine: "${type}" needs random numbers`);
  return keepByChance(values, chances, density);
}

/**
 * One vector from several: pruned, weighted, and added up - or, with election of signs, averaged over those adapters whose value has the elected sign.
 * The sign is elected on the values before weighting; 0 counts as positive in the election and as a sign of its own afterwards, as in PEFT.
 */
export function combineVectors(vectors: readonly TaskVector[], combination: Combination): Float64Array {
  const parts = vectors.map((vector) => ({ values: pruned(vector, combination), weight: vector.weight }));
  const result = new Float64Array(parts[0]?.values.length ?? 0);
  for (let i = 0; i < result.length; i++) {
    let total = 0;
    if (!combination.elect) {
      for (const { values, weight } of parts) total += weight * (values[i] ?? 0);
      result[i] = total;
      continue;
    }
    let vote = 0;
    for (const { values } of parts) {
      const value = values[i] ?? 0;
      vote += combination.majoritySign === 'total' ? value : Math.sign(value);
    }
    const elected = vote >= 0 ? 1 : -1;
    let agreeing = 0;
    for (const { values, weight } of parts) {
      const value = values[i] ?? 0;
      if (Math.sign(value) !== elected) continue;
      total += weight * value;
      agreeing++;
    }
    result[i] = total / Math.max(agreeing, 1);
  }
  return result;
}
