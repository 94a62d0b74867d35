import { LossSpikeError, NonFiniteError } from '../errors.js';
import type { Recipe } from '../recipe.js';

export type PolicySettings = Recipe['training']['policy'];

/** What can be wrong with a step. */
export type StepProblem = 'non-finite' | 'spike';

/** Skipped steps in a row after which the next bad one ends the run. */
export const kMostSkips = 10;

export interface StepValues {
  readonly loss: number;
  readonly gradNorm: number;
}

/** What the policy says of a step. Without `problem` it is an ordinary one; a problem with `update` is only told. */
export interface Judgement {
  readonly action: 'update' | 'skip' | 'stop';
  readonly problem?: StepProblem;
  /** Median that a spike was measured by. */
  readonly median?: number;
}

/** What the policy remembers, as a checkpoint holds it. */
export interface PolicyState {
  /** The last finite losses, oldest first. */
  readonly losses: readonly number[];
  readonly skipsInARow: number;
  /** Steps skipped since the run began. */
  readonly skipped: number;
}

/** Decides about each step before its update; see `training.policy`. */
export class StepPolicy {
  readonly #settings: PolicySettings;
  #losses: number[] = [];
  #skipsInARow = 0;
  #skipped = 0;

  constructor(settings: PolicySettings) {
    this.#settings = settings;
  }

  get skipped(): number {
    return this.#skipped;
  }

  /** Says what to do; nothing is remembered until `note`. */
  judge(values: StepValues): Judgement {
    const { nonFinite, lossSpike } = this.#settings;
    if (!Number.isFinite(values.loss) || !Number.isFinite(values.gradNorm)) return this.#limited(nonFinite, { problem: 'non-finite' });
    const median = this.#median();
    if (lossSpike === 'ignore' || median === undefined || values.loss <= this.#settings.spikeFactor * median) return { action: 'update' };
    const found = { problem: 'spike', median } as const;
    return lossSpike === 'warn' ? { action: 'update', ...found } : this.#limited(lossSpike, found);
  }

  /** Remembers a step that was made or skipped. */
  note({ loss }: StepValues, { action }: Judgement): void {
    if (Number.isFinite(loss)) this.#losses = [...this.#losses, loss].slice(-this.#settings.spikeWindow);
    this.#skipsInARow = action === 'skip' ? this.#skipsInARow + 1 : 0;
    if (action === 'skip') this.#skipped++;
  }

  /** The error that ends a run at this step. `rows` say where its rows are from. */
  stopError(step: number, values: StepValues, { problem, median }: Judgement, rows: readonly string[]): Error {
    const named = rows.length > 8 ? `${rows.slice(0, 8).join(', ')} and ${rows.length - 8} more` : rows.join(', ');
    const after = this.#skipsInARow > 0 ? ` after ${this.#skipsInARow} skipped steps in a row` : '';
    const advice = `at step ${step}${after}; its rows are ${named}; lower the learning rate, or look at these rows`;
    if (problem === 'spike') {
      const limit = `${this.#settings.spikeFactor} times the median of the last ${this.#losses.length}`;
      return new LossSpikeError(
        `train: the loss rose above ${limit}; got ${values.loss.toPrecision(5)}, median ${(median ?? Number.NaN).toPrecision(5)}, ${advice}`,
      );
    }
    const what = Number.isFinite(values.loss) ? `the gradient norm is ${values.gradNorm}` : `the loss is ${values.loss}`;
    return new NonFiniteError(`train: ${what} ${advice}`);
  }

  state(): PolicyState {
    return { losses: this.#losses, skipsInARow: this.#skipsInARow, skipped: this.#skipped };
  }

  restore({ losses, skipsInARow, skipped }: PolicyState): void {
    this.#losses = losses.slice(-this.#settings.spikeWindow);
    this.#skipsInARow = skipsInARow;
    this.#skipped = skipped;
  }

  #limited(wanted: 'skip' | 'stop', found: Pick<Judgement, 'problem' | 'median'>): Judgement {
    return { action: wanted === 'skip' && this.#skipsInARow < kMostSkips ? 'skip' : 'stop', ...found };
  }

  /** Undefined until the window is full. */
  #median(): number | undefined {
    const { spikeWindow } = this.#settings;
    if (this.#losses.length < spikeWindow) return undefined;
    const sorted = [...this.#losses].sort((a, b) => a - b);
    const middle = spikeWindow >> 1;
    const upper = sorted[middle] as number;
    return spikeWindow % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
  }
}
