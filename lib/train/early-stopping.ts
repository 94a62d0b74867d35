import type { Recipe } from '../recipe.js';

export type EarlyStoppingSettings = NonNullable<Recipe['training']['earlyStopping']>;

/** What early stopping remembers, as a checkpoint holds it. */
export interface EarlyStoppingState {
  /** The last held-out loss that counted as lower; null before the first. */
  readonly reference: number | null;
  /** Evaluations since then. */
  readonly stale: number;
}

/** Counts evaluations without a lower held-out loss; see `training.earlyStopping`. Without settings it counts and never stops. */
export class EarlyStopping {
  readonly #settings: EarlyStoppingSettings | undefined;
  #reference = Number.POSITIVE_INFINITY;
  #stale = 0;

  constructor(settings: EarlyStoppingSettings | undefined) {
    this.#settings = settings;
  }

  note(evalLoss: number): void {
    if (evalLoss < this.#reference - (this.#settings?.minDelta ?? 0)) {
      this.#reference = evalLoss;
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
    return `held-out loss not below ${this.#reference.toPrecision(5)}${by} in ${this.#stale} evaluations`;
  }

  state(): EarlyStoppingState {
    return { reference: Number.isFinite(this.#reference) ? this.#reference : null, stale: this.#stale };
  }

  restore({ reference, stale }: EarlyStoppingState): void {
    this.#reference = reference ?? Number.POSITIVE_INFINITY;
    this.#stale = stale;
  }
}
