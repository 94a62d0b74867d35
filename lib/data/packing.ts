import { FormatError } from '../errors.js';
import type { Sequence } from './encode.js';
import { type PositionOrder, positions } from './order.js';
import { permutation } from './shuffle.js';

/** Positions of the stream that are packed together. */
const kWindow = 1024;

/** Packs counted for `fill`, in windows. */
const kFillWindows = 64;

export interface PackingOptions {
  /** Tokens of every row, as it is cut; rows of 0 are left out. */
  readonly lengths: ArrayLike<number>;
  /** Most tokens of a pack. */
  readonly sequence: number;
  /** Seed of the order of packs; undefined keeps them in the order of their first rows. */
  readonly seed?: number | undefined;
}

/**
 * Which rows share a sequence. The stream of rows is cut into windows of 1024 positions, also at the end of each epoch, and each window is packed by best fit: the
 * longest row first, each into the fullest pack that has room. A row is never split. Pack n is a function of order, lengths and n alone: those before it are
 * planned again after a resume, from lengths, without reading rows.
 */
export class PackingPlan {
  readonly #order: PositionOrder;
  readonly #options: PackingOptions;
  /** Number of the first pack of each window planned so far, and where the next window begins. */
  readonly #firstPacks = [0];
  readonly #starts = [0];
  #planned = -1;
  #packs: readonly (readonly number[])[] = [];

  constructor(order: PositionOrder, options: PackingOptions) {
    this.#order = order;
    this.#options = options;
  }

  /** The rows of pack `number`, from 0. */
  at(number: number): readonly number[] {
    let window = this.#windowOf(number);
    while (window === undefined) {
      this.#plan(this.#starts.length - 1);
      window = this.#windowOf(number);
    }
    this.#plan(window);
    return this.#packs[number - (this.#firstPacks[window] as number)] as readonly number[];
  }

  /** Packs of step `step` (counted from 1), `batch` of them. */
  step(step: number, batch: number): (readonly number[])[] {
    return positions((step - 1) * batch, batch).map((number) => this.at(number));
  }

  /** How full the packs of the first epoch are (of its first 65,536 rows where it is longer). */
  fill(): { readonly rows: number; readonly packs: number; readonly rate: number } {
    const { size } = this.#order;
    let rows = 0;
    let tokens = 0;
    let packs = 0;
    for (let window = 0; window < kFillWindows && window * kWindow < size; window++) {
      this.#plan(window);
      packs += this.#packs.length;
      for (const pack of this.#packs) {
        rows += pack.length;
        for (const row of pack) tokens += this.#options.lengths[row] ?? 0;
      }
    }
    return { rows, packs, rate: tokens / (packs * this.#options.sequence) };
  }

  /** The window that holds pack `number`; undefined where it is not planned yet. */
  #windowOf(number: number): number | undefined {
    const known = this.#firstPacks;
    if (number >= (known.at(-1) as number)) return undefined;
    let low = 0;
    let high = known.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if ((known[middle] as number) <= number) low = middle;
      else high = middle;
    }
    return low;
  }

  #plan(window: number): void {
    if (window === this.#planned) return;
    const { lengths, sequence, seed } = this.#options;
    const { size } = this.#order;
    const start = this.#starts[window] as number;
    const count = Math.min(kWindow, size - (start % size));
    const rows = positions(start, count).map((position) => this.#order.at(position));
    const packs = bestFit(rows, lengths, sequence);
    const shuffled =
      seed === undefined ? packs : Array.from(permutation(packs.length, seed, window, kPackSource), (index) => packs[index] ?? []);
    this.#packs = shuffled;
    this.#planned = window;
    if (window < this.#starts.length - 1) return;
    this.#starts.push(start + count);
    this.#firstPacks.push((this.#firstPacks[window] as number) + packs.length);
  }
}

/** Where a source would stand whose permutations order packs: after all sources. */
const kPackSource = 0xffff;

/** Rows in packs of at most `sequence` tokens, each pack in the order of `rows`, packs in the order of their first rows. */
export function bestFit(rows: readonly number[], lengths: ArrayLike<number>, sequence: number): number[][] {
  const lengthOf = (place: number): number => lengths[rows[place] as number] ?? 0;
  const places = [...rows.keys()].filter((place) => lengthOf(place) > 0).sort((a, b) => lengthOf(b) - lengthOf(a) || a - b);
  const packs: { places: number[]; room: number }[] = [];
  for (const place of places) {
    const length = lengthOf(place);
    let best: { places: number[]; room: number } | undefined;
    for (const pack of packs) if (pack.room >= length && (best === undefined || pack.room < best.room)) best = pack;
    if (best === undefined) {
      packs.push({ places: [place], room: sequence - length });
    } else {
      best.places.push(place);
      best.room -= length;
    }
  }
  for (const pack of packs) pack.places.sort((a, b) => a - b);
  packs.sort((a, b) => (a.places[0] ?? 0) - (b.places[0] ?? 0));
  return packs.map((pack) => pack.places.map((place) => rows[place] as number));
}

/** Sequences as one, in which each stays a document of its own. */
export function packSequences(rows: readonly Sequence[]): Sequence {
  const [first] = rows;
  if (rows.length === 1 && first !== undefined) return first;
  const other = rows.find(({ task }) => task !== first?.task);
  if (other !== undefined)
    throw new FormatError(
      `${other.where}: rows of several tasks cannot share a sequence; got "task" and \`packing: true\`, expected one of the two`,
    );
  const total = rows.reduce((sum, { ids }) => sum + ids.length, 0);
  const ids = new Int32Array(total);
  const learnt = new Uint8Array(total);
  const starts: number[] = [];
  let at = 0;
  for (const row of rows) {
    starts.push(at);
    ids.set(row.ids, at);
    learnt.set(row.learnt, at);
    at += row.ids.length;
  }
  const where = rows.map((row) => row.where).join(' + ');
  return { ids, learnt, where, starts, ...(first?.task === undefined ? {} : { task: first.task }) };
}
