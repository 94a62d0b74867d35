import { permutation } from './shuffle.js';

/**
 * Which rows each step takes: a function of (size, seed, step) without state, so that a resumed run continues exactly.
 * Position p of the endless stream is row p mod size of epoch p div size, in file order or in that epoch's own permutation.
 */
export class RowOrder {
  readonly #size: number;
  readonly #seed: number | undefined;
  #epoch = -1;
  #permutation: Uint32Array = new Uint32Array();

  /** `seed` undefined keeps the file order. */
  constructor(size: number, seed: number | undefined) {
    this.#size = size;
    this.#seed = seed;
  }

  at(position: number): number {
    const place = position % this.#size;
    if (this.#seed === undefined) return place;
    const epoch = Math.floor(position / this.#size);
    if (epoch !== this.#epoch) {
      this.#permutation = permutation(this.#size, this.#seed, epoch);
      this.#epoch = epoch;
    }
    return this.#permutation[place] as number;
  }

  /** Rows of step `step` (counted from 1) of `batch` rows. */
  step(step: number, batch: number): number[] {
    return Array.from({ length: batch }, (_, index) => this.at((step - 1) * batch + index));
  }
}
