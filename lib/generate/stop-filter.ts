/** Passes text on until one of the stop texts comes, holding back what may be the beginning of one. */
export class StopFilter {
  readonly #stops: readonly string[];
  #held = '';
  #stopped = false;

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** Whether a stop text came; nothing passes after it. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** What can be shown after `text` came. */
  push(text: string): string {
    if (this.#stopped) return '';
    this.#held += text;
    const places = this.#stops.map((stop) => this.#held.indexOf(stop)).filter((at) => at >= 0);
    if (places.length > 0) {
      this.#stopped = true;
      return this.#held.slice(0, Math.min(...places));
    }
    const shown = this.#held.length - this.#longestBeginning();
    const passed = this.#held.slice(0, shown);
    this.#held = this.#held.slice(shown);
    return passed;
  }

  /** What was held back, when no more text comes. */
  end(): string {
    const rest = this.#stopped ? '' : this.#held;
    this.#held = '';
    return rest;
  }

  /** How many of the last characters are the beginning of a stop text. */
  #longestBeginning(): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let n = Math.min(stop.length - 1, this.#held.length); n > longest; n--) if (this.#held.endsWith(stop.slice(0, n))) longest = n;
    }
    return longest;
  }
}
