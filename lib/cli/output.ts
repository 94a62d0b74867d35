import { type ProgressState, plainLine } from './progress-line.js';
import { StatusLine } from './status-line.js';

export { formatBytes, formatCount, formatSeconds } from '../format.js';

/** Options that every command has. */
export interface OutputOptions {
  /** Print exactly one JSON object as the last line of standard output. */
  readonly json?: boolean;
  /** No progress and no messages on standard error. */
  readonly quiet?: boolean;
}

/** Seconds between two progress lines where standard error is no terminal. */
const kLineInterval = 4;

/** Where a command talks: results go to standard output, progress and messages to standard error. */
export class Output {
  readonly json: boolean;
  readonly quiet: boolean;
  #line: StatusLine | undefined;
  #state: ProgressState = { label: '', done: 0, total: 0, notes: [], left: undefined };
  #first: { readonly done: number; readonly time: number } | undefined;
  #lastLine = 0;

  constructor(options: OutputOptions) {
    this.json = options.json ?? false;
    this.quiet = options.quiet ?? false;
  }

  /** A message for people, on standard error. */
  message(text: string): void {
    if (this.quiet) return;
    if (this.#line !== undefined) this.#line.above(text);
    else process.stderr.write(`${text}\n`);
  }

  /** The result: one JSON line with `--json`, else `text`, on standard output. */
  result(value: Readonly<Record<string, unknown>>, text: string): void {
    this.endProgress();
    process.stdout.write(this.json ? `${JSON.stringify(value)}\n` : text === '' ? '' : `${text}\n`);
  }

  /** Begins counting to `total` things called `label`; 0 where the total is unknown. */
  startProgress(label: string, total: number): void {
    this.endProgress();
    this.#state = { label, done: 0, total, notes: [], left: undefined };
    this.#first = undefined;
    this.#lastLine = performance.now();
    if (!this.quiet && total > 0 && process.stderr.isTTY) this.#line = new StatusLine(process.stderr, this.#state);
  }

  /** `done` of the total; the notes stand beside it, the most important first (loss, tokens/s). */
  progress(done: number, notes: readonly string[] = []): void {
    if (this.quiet) return;
    this.#state = { ...this.#state, done, notes, left: this.#secondsLeft(done) };
    if (this.#line !== undefined) {
      this.#line.update(this.#state);
      return;
    }
    const now = performance.now();
    if (now - this.#lastLine < kLineInterval * 1000) return;
    this.#lastLine = now;
    process.stderr.write(`${plainLine(this.#state)}\n`);
  }

  endProgress(): void {
    this.#line?.end();
    this.#line = undefined;
  }

  /** The mean pace since the first report: what came before it was preparation. */
  #secondsLeft(done: number): number | undefined {
    const { total } = this.#state;
    const now = performance.now() / 1000;
    this.#first ??= { done, time: now };
    const counted = done - this.#first.done;
    return total === 0 || counted <= 0 ? undefined : ((now - this.#first.time) / counted) * (total - done);
  }
}
