import { permutation } from './shuffle.js';

/** Which row stands at each position of an endless stream of rows. A function without state, so that a resumed run continues exactly. */
export interface PositionOrder {
  /** Positions of one epoch: rows of one source, or of all sources together. */
  readonly size: number;
  /** The row at `position`, from 0. */
  at(position: number): number;
}

/**
 * The order of one source, a function of (size, seed, position) alone. Position p of the endless stream is row p mod size of epoch p div size, in file order or in
 * that epoch's own permutation.
 */
export class RowOrder implements PositionOrder {
  readonly size: number;
  readonly #seed: number | undefined;
  readonly #source: number;
  #epoch = -1;
  #permutation: Uint32Array = new Uint32Array();

  /** `seed` undefined keeps the file order; `source` is the number of the source in a mixture. */
  constructor(size: number, seed: number | undefined, source = 0) {
    this.size = size;
    this.#seed = seed;
    this.#source = source;
  }

  at(position: number): number {
    const place = position % this.size;
    if (this.#seed === undefined) return place;
    const epoch = Math.floor(position / this.size);
    if (epoch !== this.#epoch) {
      this.#permutation = permutation(this.size, this.#seed, epoch, this.#source);
      this.#epoch = epoch;
    }
    return this.#permutation[place] as number;
  }

  /** Rows of step `step` (counted from 1) of `batch` rows. */
  step(step: number, batch: number): number[] {
    return positions((step - 1) * batch, batch).map((position) => this.at(position));
  }
}

/** `count` numbers from `start` on. */
export const positions = (start: number, count: number): number[] => Array.from({ length: count }, (_, index) => start + index);
