// Fine-tunes that go on in the background of a server: what server-fastify.ts and server-express.ts share. Every run trains on a model of its own, with
// its own copy of the weights; finished adapters are put onto one model that answers for all of them.
import { EventEmitter, once } from 'node:events';
import { join } from 'node:path';
import { attach, CancelledError, loadAdapter, loadModel, type Model, type StepReport, type TrainingRun, train } from 'lorikeet';

export interface RunRequest {
  /** One text a row. */
  readonly texts: readonly string[];
  readonly steps?: number;
  readonly learningRate?: number;
}

/** One fine-tune: its reports so far, and those to come. */
export class BackgroundRun {
  readonly id: string;
  state: 'running' | 'done' | 'cancelled' | 'failed' = 'running';
  error: string | undefined;
  /** Resolves when the run has ended, in whatever way. */
  readonly ended: Promise<void>;
  readonly #reports: StepReport[] = [];
  readonly #news = new EventEmitter().setMaxListeners(0);
  readonly #controller: AbortController;

  /** `done` is called after the last step, `release` at the end of whatever kind. */
  constructor(id: string, run: TrainingRun, controller: AbortController, hooks: { done(): Promise<unknown>; release(): void }) {
    this.id = id;
    this.#controller = controller;
    this.ended = this.#follow(run, hooks);
  }

  abort(): void {
    this.#controller.abort();
  }

  /** Every report from the first step on, then `end`, as server-sent events. */
  async *events(): AsyncGenerator<string> {
    for (let seen = 0; seen < this.#reports.length || this.state === 'running'; ) {
      const report = this.#reports[seen];
      if (report === undefined) await once(this.#news, 'news');
      else {
        seen++;
        yield `event: step\ndata: ${JSON.stringify(report)}\n\n`;
      }
    }
    yield `event: end\ndata: ${JSON.stringify({ state: this.state, error: this.error })}\n\n`;
  }

  async #follow(run: TrainingRun, { done, release }: { done(): Promise<unknown>; release(): void }): Promise<void> {
    try {
      for await (const report of run) {
        this.#reports.push(report);
        this.#news.emit('news');
      }
      await done();
      this.state = 'done';
    } catch (error) {
      this.state = error instanceof CancelledError ? 'cancelled' : 'failed';
      this.error = (error as Error).message;
    } finally {
      release();
      this.#news.emit('news');
    }
  }
}

/** All runs of a server, and the model that answers with their adapters. */
export class BackgroundRuns {
  readonly #source: string;
  readonly #folder: string;
  readonly #runs = new Map<string, BackgroundRun>();
  readonly model: Model;

  private constructor(source: string, folder: string, model: Model) {
    this.#source = source;
    this.#folder = folder;
    this.model = model;
  }

  /** `source`: a model; `folder`: where runs are kept. */
  static async open(source: string, folder: string): Promise<BackgroundRuns> {
    return new BackgroundRuns(source, folder, await loadModel(source));
  }

  get(id: string): BackgroundRun | undefined {
    return this.#runs.get(id);
  }

  get running(): number {
    return [...this.#runs.values()].filter(({ state }) => state === 'running').length;
  }

  /** Begins a run. Throws `ConfigError` for settings that cannot work. */
  async start({ texts, steps = 20, learningRate = 2e-3 }: RunRequest): Promise<BackgroundRun> {
    const id = `run-${this.#runs.size + 1}-${Date.now().toString(36)}`;
    const model = await loadModel(this.#source);
    const controller = new AbortController();
    try {
      const tuned = await attach(model, { type: 'lora', rank: 8, targets: 'all-linear' }, { seed: 1 });
      const run = train(tuned, {
        data: { train: { rows: texts } },
        training: { steps, learningRate, batch: 4, sequence: 128 },
        out: join(this.#folder, id),
        signal: controller.signal,
      });
      const begun = new BackgroundRun(id, run, controller, {
        done: () => loadAdapter(this.model, join(this.#folder, id, 'adapter'), { name: id, activate: false }),
        release: () => {
          tuned.dispose();
          model.dispose();
        },
      });
      this.#runs.set(id, begun);
      return begun;
    } catch (error) {
      model.dispose();
      throw error;
    }
  }

  /** Ends every run, each with its state saved, then releases the models. */
  async close(): Promise<void> {
    for (const run of this.#runs.values()) run.abort();
    await Promise.all([...this.#runs.values()].map((run) => run.ended));
    this.model.dispose();
  }
}
