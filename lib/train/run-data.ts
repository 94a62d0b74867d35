import { skippedMessage } from '../data/bad-rows.js';
import type { RowSet } from '../data/dataset.js';
import type { EncodedRow } from '../data/row-encoding.js';
import { repeatable, sourceList } from '../data/source.js';
import { StepLoader } from '../data/step-loader.js';
import { ConfigError } from '../errors.js';
import { isLanguageModel } from '../model.js';
import { taskOf } from '../tasks/registry.js';
import { answerSettings, type HeldQuestions, readHeldQuestions } from './held-answers.js';
import type { TrainingSettings, TrainOptions } from './options.js';
import type { AnyTrainable } from './trainable.js';

/** The rows of a run: those to train on, step by step, and those held out. */
export class RunData {
  readonly loader: StepLoader<EncodedRow>;
  readonly train: RowSet<EncodedRow>;
  readonly held: RowSet<EncodedRow> | undefined;
  /** What is asked of the model beside `held`. */
  readonly questions: HeldQuestions | undefined;
  readonly #notice: (message: string) => void;
  readonly #told = new Map<RowSet<EncodedRow>, number>();

  private constructor(
    loader: StepLoader<EncodedRow>,
    train: RowSet<EncodedRow>,
    held: RowSet<EncodedRow> | undefined,
    questions: HeldQuestions | undefined,
    notice: (message: string) => void,
  ) {
    this.loader = loader;
    this.train = train;
    this.held = held;
    this.questions = questions;
    this.#notice = notice;
  }

  /** Reads or indexes all sources. Throws as `openDataset` and `StepLoader.open` do. */
  static async open(model: AnyTrainable, options: TrainOptions, settings: TrainingSettings): Promise<RunData> {
    const { data, signal, onData, onNotice = () => undefined } = options;
    const { badRows = 'error' } = data;
    if (badRows !== 'error' && badRows !== 'skip')
      throw new ConfigError(`data.badRows: got ${JSON.stringify(badRows)}, expected error or skip`);
    const common = { sequence: settings.sequence, badRows, signal, onProgress: onData };
    const emptyRows = settings.emptyRows === 'skip' ? 'skip' : badRows;
    const task = taskOf(model, settings.loss);
    const answers = answerSettings(model, options.evaluation, data.eval);
    const heldSources =
      answers === undefined || data.eval === undefined ? data.eval : await Promise.all(sourceList(data.eval).map(repeatable));
    const opened: RowSet<EncodedRow>[] = [];
    try {
      const train: RowSet<EncodedRow> = await task.open(data.train, { ...common, emptyRows });
      opened.push(train);
      const held: RowSet<EncodedRow> | undefined = heldSources && (await task.open(heldSources, { ...common, emptyRows: 'keep' }));
      if (held !== undefined) opened.push(held);
      const questions =
        answers && heldSources && isLanguageModel(model) ? await readHeldQuestions(model, heldSources, answers, badRows) : undefined;
      const loader = await StepLoader.open(train, settings, { signal, onProgress: onData });
      const run = new RunData(loader, train, held, questions, onNotice);
      run.#tellFill();
      run.tellSkipped();
      return run;
    } catch (error) {
      await Promise.all(opened.map((set) => set.close()));
      throw error;
    }
  }

  /** Tokens of the longest sequence of a step, where it is known before its rows are read. */
  get longest(): number | undefined {
    return this.loader.fill === undefined ? this.train.longest : undefined;
  }

  /** Tells of rows that were left out since it was last asked. */
  tellSkipped(): void {
    for (const set of [this.train, this.held]) {
      if (set === undefined || (this.#told.get(set) ?? 0) === set.skipped.count) continue;
      this.#told.set(set, set.skipped.count);
      this.#notice(skippedMessage(set.name, set.skipped));
    }
  }

  #tellFill(): void {
    const { fill } = this.loader;
    if (fill === undefined) return;
    this.#notice(`packing: ${fill.rows} rows in ${fill.packs} sequences, ${(100 * fill.rate).toFixed(1)}% full`);
  }

  async close(): Promise<void> {
    this.tellSkipped();
    await this.loader.close();
    await this.held?.close();
  }
}
