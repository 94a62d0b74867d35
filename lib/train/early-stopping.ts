import type { Recipe } from '../recipe.js';
import type { DecidingMeasure } from '../tasks/task.js';

export type EarlyStoppingSettings = NonNullable<Recipe['training']['earlyStopping']>;

/** What early stopping remembers, as a checkpoint holds it. */
export interface EarlyStoppingState {
  /** The last held-out loss that counted as lower (metric that counted as higher); null before the first. */
  readonly reference: number | null;
  /** Evaluations since then. */
  readonly stale: number;
}

/** Counts evaluations in which what decides got no better; see `training.earlyStopping`. Without settings it counts and never stops. */
export class EarlyStopping {
  readonly #settings: EarlyStoppingSettings | undefined;
  readonly #decides: DecidingMeasure;
  #reference: number;
  #stale = 0;

  constructor(settings: EarlyStoppingSettings | undefined, decides: DecidingMeasure = { name: 'loss', higher: false }) {
    this.#settings = settings;
    this.#decides = decides;
    this.#reference = this.#worst;
  }

  get #worst(): number {
    return this.#decides.higher ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  }

  note(value: number): void {
    const delta = this.#settings?.minDelta ?? 0;
    if (this.#decides.higher ? value > this.#reference + delta : value < this.#reference - delta) {
      this.#reference = value;
      this.#stale = 0;
    } else {
      this.#stale++;
    }
  }

  /** Why the run is over; undefined while it is not. */
  get reason(): string | undefined {
    if (this.#settings === undefined || this.#stale < this.#settings.patience) return undefined;
    const { minDelta } = this.#settings;
    const by = minDelta === 0 ? '' : ` by more than ${minDelta}`;
    const { name, higher } = this.#decides;
    return `held-out ${name} not ${higher ? 'above' : 'below'} ${this.#reference.toPrecision(5)}${by} in ${this.#stale} evaluations`;
  }

  state(): EarlyStoppingState {
    return { reference: Number.isFinite(this.#reference) ? this.#reference : null, stale: this.#stale };
  }

  restore({ reference, stale }: EarlyStoppingState): void {
    this.#reference = reference ?? this.#worst;
    this.#stale = stale;
  }
}
