import { InvalidArgumentError, throwIfAborted, withPlace } from '../errors.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { computed } from './computed.js';
import { type CacheKey, DecompositionCache } from './decomposition-cache.js';

/** A matrix by name, made when its turn comes. */
export interface MatrixItem {
  readonly name: string;
  /** What it creates is disposed after the work on it; a tensor that was there before stays. */
  readonly load: () => Tensor | Promise<Tensor>;
}

export interface MapMatricesProgress {
  /** Matrices done, this one included. */
  readonly done: number;
  readonly total: number;
  readonly name: string;
  /** Whether the factors came from the cache. */
  readonly cached: boolean;
}

export interface MapMatricesOptions {
  /** Ends the work after the matrix at hand, with `CancelledError`. */
  readonly signal?: AbortSignal;
  readonly progress?: (progress: MapMatricesProgress) => void;
  /** Keeps factors in a folder and finds them again by the matrix's content and `key`, which must name the work and all of its options. */
  readonly cache?: { readonly folder: string; readonly key: CacheKey };
}

/**
 * Runs a decomposition over many matrices, one after the other: each is loaded, worked on and released before the next, so that besides the results only one
 * is in memory. Each decomposition uses all threads or, for a batch, one thread a matrix; the thread of JavaScript stays free. Returns the factors by name, in
 * the order of `items`.
 *
 * An error of the work names the matrix; then, and after a cancellation, nothing is returned, but what the cache holds by then is found by the next run.
 *
 * @example
 * const factors = await mapMatrices(layers, (weight) => randomizedSvd(weight, { rank: 16, seed: 1 }), {
 *   cache: { folder: 'cache', key: { work: 'randomizedSvd', rank: 16, seed: 1 } },
 * });
 */
export function mapMatrices<Name extends string>(
  items: readonly MatrixItem[],
  work: (matrix: Tensor, name: string) => Readonly<Record<Name, Tensor>> | Promise<Readonly<Record<Name, Tensor>>>,
  options: MapMatricesOptions = {},
): Promise<Map<string, Readonly<Record<Name, Tensor>>>> {
  const { signal, progress } = options;
  const cache = options.cache && new DecompositionCache(options.cache.folder, options.cache.key);
  return scope(async () => {
    const results = new Map<string, Readonly<Record<Name, Tensor>>>();
    for (const { name, load } of items) {
      throwIfAborted(signal, 'mapMatrices');
      if (results.has(name)) throw new InvalidArgumentError(`mapMatrices: two matrices have one name; got "${name}"`);
      const { factors, cached } = await scope(async () => {
        const matrix = await load();
        const file = await cache?.fileFor(matrix);
        const found = file === undefined ? undefined : await cache?.read(file);
        if (found !== undefined) return { factors: found as Record<Name, Tensor>, cached: true };
        const made = await work(matrix, name);
        await computed(Object.values(made));
        if (file !== undefined) await cache?.write(file, made);
        return { factors: made, cached: false };
      }).catch((error: unknown) => {
        throw withPlace(error, `mapMatrices: "${name}"`);
      });
      results.set(name, factors);
      progress?.({ done: results.size, total: items.length, name, cached });
    }
    return results;
  });
}
