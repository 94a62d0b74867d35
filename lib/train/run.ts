import { CancelledError } from '../errors.js';

/** What an evaluation found. */
export interface Evaluated {
  /** Mean loss over the held-out targets: in nats, of a regression the squared error. */
  readonly evalLoss: number;
  /** Metrics of the task by name, such as `accuracy`; absent where it has none but the loss. */
  readonly evalMetrics?: Readonly<Record<string, number>>;
}

/** The best evaluation: that of the lowest loss, or of the best metric where the task is decided by one. */
export interface BestState extends Evaluated {
  readonly step: number;
}

/** What a run reports after each optimizer step. */
export interface StepReport extends Partial<Evaluated> {
  /** Counted from 1. */
  readonly step: number;
  /** Mean loss over the targets of the step before its update: in nats, of a regression the squared error. */
  readonly loss: number;
  readonly learningRate: number;
  /** Global norm of the gradient before clipping. */
  readonly gradNorm: number;
  /** Tokens of the step, padding not counted. */
  readonly tokens: number;
  readonly tokensPerSecond: number;
  /** Wall time of the step. */
  readonly seconds: number;
  /** Why `training.policy` left the update of the step out. */
  readonly skipped?: 'non-finite' | 'spike';
  /** The loss is a spike, and `training.policy` says to tell and go on. */
  readonly spike?: true;
}

/** What a finished run says; of the last evaluation, where there are held-out rows. */
export interface TrainingResult extends Partial<Evaluated> {
  readonly steps: number;
  /** Loss of the last step that was not skipped. */
  readonly loss: number;
  /** The best evaluation; absent without `data.eval`. */
  readonly best?: BestState;
  /** Why the run ended before its last step; absent where it did not. */
  readonly stoppedEarly?: string;
  /** Steps whose update `training.policy` left out; absent where there are none. */
  readonly skippedSteps?: number;
  /** Tokens trained on, padding not counted. */
  readonly tokens: number;
  readonly tokensPerSecond: number;
  /** Highest number of bytes of native memory in use at once, since the process began. */
  readonly peakBytes: number;
  readonly trainableParameters: number;
  /** Folder of the trained adapter; absent without `out`. */
  readonly adapter?: string;
  /** Wall time of all steps, evaluations not counted. */
  readonly seconds: number;
}

/**
 * A run of `train()`: await it for the result, or iterate over its steps. Nothing happens before the first of both, and while a loop's body runs
 * the next step waits; leaving the loop early ends the run as its signal would.
 */
export class TrainingRun implements PromiseLike<TrainingResult>, AsyncIterable<StepReport> {
  readonly #steps: AsyncGenerator<StepReport, TrainingResult>;
  #end: Promise<TrainingResult> | undefined;
  #awaited: Promise<TrainingResult> | undefined;

  /** @internal */
  constructor(steps: AsyncGenerator<StepReport, TrainingResult>) {
    this.#steps = steps;
  }

  // biome-ignore lint/suspicious/noThenProperty: a run is awaitable by design
  then<A = TrainingResult, B = never>(
    onResult?: ((result: TrainingResult) => A | PromiseLike<A>) | null,
    onError?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#awaited ??= this.#drain();
    return this.#awaited.then(onResult, onError);
  }

  catch<B = never>(onError?: ((error: unknown) => B | PromiseLike<B>) | null): Promise<TrainingResult | B> {
    return this.then(undefined, onError);
  }

  finally(onEnd?: (() => void) | null): Promise<TrainingResult> {
    return this.then().finally(onEnd);
  }

  [Symbol.asyncIterator](): AsyncIterator<StepReport, TrainingResult> {
    return {
      next: () => this.#next(),
      return: async () => {
        this.#end ??= Promise.reject(new CancelledError('train: the loop over its steps was left before the end'));
        this.#end.catch(() => undefined);
        return (await this.#steps.return(undefined as never)) as IteratorReturnResult<TrainingResult>;
      },
    };
  }

  /** The next step; how the run ended is remembered for those who ask later. */
  async #next(): Promise<IteratorResult<StepReport, TrainingResult>> {
    try {
      const next = await this.#steps.next();
      if (next.done) this.#end ??= Promise.resolve(next.value);
      return next;
    } catch (error) {
      this.#end ??= Promise.reject(error);
      this.#end.catch(() => undefined);
      throw error;
    }
  }

  async #drain(): Promise<TrainingResult> {
    while (this.#end === undefined) await this.#next();
    return this.#end;
  }
}
