import type { WriteStream } from 'node:tty';
import { barLine, type ProgressState } from './progress-line.js';

/** Milliseconds between two drawings. */
const kPace = 100;
const kDefaultColumns = 80;

/** The last line of a terminal, drawn again and again. What is written between goes above it. */
export class StatusLine {
  readonly #stream: WriteStream;
  #state: ProgressState;
  /** Length of the line on the screen. */
  #drawn = 0;
  #drawnAt = 0;

  constructor(stream: WriteStream, state: ProgressState) {
    this.#stream = stream;
    this.#state = state;
    this.#draw();
    stream.on('resize', this.#redraw);
  }

  update(state: ProgressState): void {
    this.#state = state;
    if (performance.now() - this.#drawnAt >= kPace) this.#draw();
  }

  /** Writes a line above this one. */
  above(text: string): void {
    this.#clear();
    this.#stream.write(`${text}\n`);
    this.#draw();
  }

  /** Takes the line away. */
  end(): void {
    this.#stream.off('resize', this.#redraw);
    this.#clear();
  }

  get #columns(): number {
    return this.#stream.columns || kDefaultColumns;
  }

  #draw(): void {
    const line = barLine(this.#state, this.#columns);
    this.#stream.write(`\r${line}\u001b[K`);
    this.#drawn = line.length;
    this.#drawnAt = performance.now();
  }

  /** A terminal that became narrower has broken the line into rows: all of them go. */
  #clear(): void {
    const rows = Math.max(1, Math.ceil(this.#drawn / this.#columns));
    this.#stream.write(`${rows > 1 ? `\u001b[${rows - 1}A` : ''}\r\u001b[J`);
    this.#drawn = 0;
  }

  readonly #redraw = (): void => {
    this.#clear();
    this.#draw();
  };
}
