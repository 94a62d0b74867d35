import { type PositionOrder, positions } from './order.js';
import { permutation } from './shuffle.js';

/** Steps whose rows are grouped together, where an epoch has so many. */
const kWindowSteps = 50;

export interface LengthGroupOptions {
  /** Tokens of every row. */
  readonly lengths: ArrayLike<number>;
  /** Rows of one forward pass. */
  readonly batch: number;
  /** Forward passes of one step. */
  readonly accumulate: number;
  readonly seed: number;
}

/**
 * Batches of rows of similar length. The stream of rows is cut into windows of 50 steps (fewer where an epoch is shorter); the rows of a window are sorted by length
 * and cut into batches, and the batches come in a random order of that window. Every row comes once an epoch, up to a window at its border. Step k is a function
 * of order, lengths, seed and k alone.
 */
export class LengthGroupedOrder {
  readonly #order: PositionOrder;
  readonly #options: LengthGroupOptions;
  readonly #steps: number;
  #window = -1;
  #rows: readonly number[] = [];

  constructor(order: PositionOrder, options: LengthGroupOptions) {
    this.#order = order;
    this.#options = options;
    const { batch, accumulate } = options;
    this.#steps = Math.max(1, Math.min(kWindowSteps, Math.floor(order.size / (batch * accumulate))));
  }

  /** Rows of step `step` (counted from 1), batch by batch. */
  step(step: number): number[] {
    const { batch, accumulate } = this.#options;
    const window = Math.floor((step - 1) / this.#steps);
    if (window !== this.#window) this.#plan(window);
    const start = ((step - 1) % this.#steps) * batch * accumulate;
    return this.#rows.slice(start, start + batch * accumulate);
  }

  #plan(window: number): void {
    const { lengths, batch, accumulate, seed } = this.#options;
    const count = this.#steps * batch * accumulate;
    const rows = positions(window * count, count).map((position) => this.#order.at(position));
    const sorted = [...rows.keys()].sort((a, b) => (lengths[rows[b] ?? 0] ?? 0) - (lengths[rows[a] ?? 0] ?? 0) || a - b);
    const batches = permutation(count / batch, seed, window, kGroupSource);
    this.#rows = Array.from(batches).flatMap((index) =>
      sorted.slice(index * batch, (index + 1) * batch).map((place) => rows[place] as number),
    );
    this.#window = window;
  }
}

/** Where a source would stand whose permutations order batches: after all sources. */
const kGroupSource = 0xfffe;
