import { isatty } from 'node:tty';
import cliProgress from 'cli-progress';

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
  #bar: cliProgress.SingleBar | undefined;
  #label = '';
  #total = 0;
  #lastLine = 0;

  constructor(options: OutputOptions) {
    this.json = options.json ?? false;
    this.quiet = options.quiet ?? false;
  }

  /** A message for people, on standard error. */
  message(text: string): void {
    if (this.quiet) return;
    if (this.#bar !== undefined) process.stderr.write('\r\u001b[K');
    process.stderr.write(`${text}\n`);
  }

  /** The result: one JSON line with `--json`, else `text`, on standard output. */
  result(value: Readonly<Record<string, unknown>>, text: string): void {
    this.endProgress();
    process.stdout.write(this.json ? `${JSON.stringify(value)}\n` : text === '' ? '' : `${text}\n`);
  }

  /** Begins counting to `total` things called `label`; 0 where the total is unknown. */
  startProgress(label: string, total: number): void {
    this.endProgress();
    this.#label = label;
    this.#total = total;
    this.#lastLine = performance.now();
    if (this.quiet || total === 0 || !isatty(2)) return;
    this.#bar = new cliProgress.SingleBar({
      stream: process.stderr,
      format: `${label} {bar} {value}/{total}  {note}  ETA {eta_formatted}`,
      barCompleteChar: '█',
      barIncompleteChar: '░',
      barsize: 24,
      hideCursor: true,
      clearOnComplete: true,
      etaBuffer: 20,
    });
    this.#bar.start(total, 0, { note: '' });
  }

  /** `done` of the total; `note` stands beside it (loss, tokens/s). */
  progress(done: number, note = ''): void {
    if (this.quiet) return;
    if (this.#bar !== undefined) {
      this.#bar.update(done, { note });
      return;
    }
    const now = performance.now();
    if (now - this.#lastLine < kLineInterval * 1000) return;
    this.#lastLine = now;
    process.stderr.write(`${this.#label} ${done}${this.#total === 0 ? '' : `/${this.#total}`}${note === '' ? '' : `  ${note}`}\n`);
  }

  endProgress(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}
