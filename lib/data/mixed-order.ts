import { InvalidArgumentError } from '../errors.js';
import { type PositionOrder, RowOrder } from './order.js';

export interface MixedOrderOptions {
  /** Parts of the sources, up to a common factor. Default: their sizes, so that every source ends its epoch at the same position. */
  readonly weights?: readonly number[] | undefined;
  /** Undefined keeps each source in file order. */
  readonly seed?: number | undefined;
}

/**
 * The order of several sources, of which row numbers run on from one to the next. Which source a position takes is spread evenly by weight: the first source has
 * round(p w) of the first p positions (w its part of all), the second the rounded part of those that are left to it and its followers, and so on. So the parts
 * are exact in the long run, any stretch of the stream is off by less than the number of sources, and position p needs no history. Each source runs through epochs of
 * its own, each with its own permutation.
 */
export class MixedOrder implements PositionOrder {
  readonly size: number;
  readonly #orders: readonly RowOrder[];
  readonly #starts: readonly number[];
  /** Part of each source of what the sources before it leave. */
  readonly #parts: readonly number[];

  /** Throws `InvalidArgumentError` for weights that are not above 0, or not one a source. */
  constructor(sizes: readonly number[], { weights = sizes, seed }: MixedOrderOptions = {}) {
    if (weights.length !== sizes.length || !weights.every((weight) => weight > 0 && Number.isFinite(weight)))
      throw new InvalidArgumentError(`mixedOrder: weights must be ${sizes.length} numbers above 0; got ${weights.join(', ')}`);
    let start = 0;
    this.#starts = sizes.map((size) => {
      start += size;
      return start - size;
    });
    this.size = start;
    this.#orders = sizes.map((size, source) => new RowOrder(size, seed, source));
    this.#parts = weights.map((weight, source) => weight / weights.slice(source).reduce((sum, other) => sum + other, 0));
  }

  /** The source at `position`, and how many positions before it were that source's. */
  place(position: number): { readonly source: number; readonly index: number } {
    let left = position;
    for (const [source, part] of this.#parts.entries()) {
      const taken = source === this.#parts.length - 1 ? left : share(left, part);
      if (source === this.#parts.length - 1 || share(left + 1, part) > taken) return { source, index: taken };
      left -= taken;
    }
    throw new InvalidArgumentError(`mixedOrder: no source at position ${position}`);
  }

  at(position: number): number {
    const { source, index } = this.place(position);
    return (this.#starts[source] as number) + (this.#orders[source] as RowOrder).at(index);
  }
}

const share = (count: number, part: number): number => Math.floor(count * part + 0.5);
