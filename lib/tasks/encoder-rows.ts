import { dirname, isAbsolute, join } from 'node:path';
import type { DatasetOptions, RowSet } from '../data/dataset.js';
import { batchable, collateInputs, type ExampleInput, isTokens } from '../data/encoder-input.js';
import { textOf } from '../data/example.js';
import type { Values } from '../data/front-end.js';
import { openRows } from '../data/open-dataset.js';
import { describeValue, fieldOf, type Row } from '../data/row.js';
import type { EncodedRow } from '../data/row-encoding.js';
import { rowTask, tasksOf } from '../data/row-task.js';
import type { DataSource, DataSources } from '../data/source.js';
import { requireTaskFields } from '../data/task-fields.js';
import { FormatError, InvalidArgumentError, throwIfAborted } from '../errors.js';
import type { EncoderForwardOptions, EncoderRows } from '../models/encoder-batch.js';
import { ignoredTarget } from '../models/language-loss.js';
import { type TaskTargets, taskLoss, wide } from '../models/task-loss.js';
import { tensor, zeros } from '../ops/create.js';
import { indexSelect } from '../ops/index-ops.js';
import { reshape } from '../ops/shape.js';
import { valuesOf } from '../predict.js';
import { readExample, valuesProblem } from '../read-example.js';
import type { PredictInput, TaskModel } from '../task-model.js';
import type { Tensor } from '../tensor.js';
import { type FileInput, rowsWithFiles } from './file-rows.js';
import type { LossPass, Measured, MeasureOptions, RowShape, TaskBatch, TaskOutputs } from './task.js';

/** A row of an encoder's task. Files are read when their row is asked for. */
export interface EncoderRow<Target = unknown> extends EncodedRow {
  readonly input: ExampleInput | FileInput;
  readonly target: Target;
}

/** What a row of a source is to learn, given its input. */
export type TargetReader<Target> = (row: Row, input: ExampleInput | FileInput) => { readonly target: Target; readonly empty?: string };

/** The rows of sources as examples of the model's task. Throws `ConfigError` for fields that the task does not read. */
export async function openEncoderRows<Target>(
  model: TaskModel,
  sources: DataSources,
  options: DatasetOptions,
  targetOf: (source: DataSource) => TargetReader<Target>,
): Promise<RowSet<EncoderRow<Target>>> {
  const { modality } = model.network;
  const set = await openRows<EncoderRow<Target>>(
    sources,
    (source) => {
      requireTaskFields(model.task, modality, source);
      const read = inputReader(model, source, options.sequence);
      const reader = targetOf(source);
      const readTask = rowTask(source.task);
      return {
        async encode(row) {
          const input = await read(row);
          const { target, empty } = reader(row, input);
          return { row: { where: row.where, input, target, ...readTask(row) }, ...(empty === undefined ? {} : { empty }) };
        },
        length: ({ input }) => tokensOf(model, input),
      };
    },
    options,
  );
  return modality === 'text' ? set : rowsWithFiles(set, model, options);
}

type ReadInput = (row: Row) => Promise<ExampleInput | FileInput>;

function inputReader(model: TaskModel, source: DataSource, sequence: number): ReadInput {
  const { modality } = model.network;
  if (modality !== 'text') {
    const name = (modality === 'image' ? source.image : source.audio) ?? modality;
    const folder = source.path === undefined ? '' : dirname(source.path);
    return async (row) => fileOf(model, row, name, folder);
  }
  const text = textReader(model, source);
  return (row) => readExample(model, text(row), { maxLength: sequence, where: row.where });
}

function fileOf({ network }: TaskModel, row: Row, name: string, folder: string): FileInput | Values {
  const value = fieldOf(row, name);
  if (typeof value === 'string') return { file: isAbsolute(value) ? value : join(folder, value) };
  const problem = valuesProblem(network, value);
  if (problem !== undefined) throw new FormatError(`${row.where}: field "${name}" ${problem}`);
  return value as Values;
}

function textReader({ task }: TaskModel, source: DataSource): (row: Row) => PredictInput {
  if (task === 'token-classification') {
    const name = source.tokens ?? 'tokens';
    return (row) => ({ words: listOf(fieldOf(row, name), name, row.where).map((word) => textOf(word, name, row.where)) });
  }
  const { field = 'text', field2 } = source;
  const read = (row: Row, name: string): string => textOf(fieldOf(row, name), name, row.where);
  return field2 === undefined ? (row) => read(row, field) : (row) => [read(row, field), read(row, field2)];
}

/** A list, or a text with white space between its entries, as tables hold it. */
export function listOf(value: unknown, name: string, where: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  if (typeof value === 'string') return value.split(/\s+/).filter((entry) => entry !== '');
  throw new FormatError(
    `${where}: field "${name}" is no list; got ${describeValue(value)}, expected a list, or a text to be split at white space`,
  );
}

/** Tokens that the model sees of an example: of images and recordings the same for all. */
export const tokensOf = ({ network }: TaskModel, input: ExampleInput | FileInput): number =>
  'ids' in input ? input.ids.length : network.shape.contextLength;

/** The inputs of rows as one batch. */
export const inputsOf = ({ network }: TaskModel, rows: readonly EncoderRow[]): EncoderRows =>
  collateInputs(
    network.modality,
    rows.map(({ input }) => input as ExampleInput),
  );

/** The tasks of rows, for a forward pass. */
export function routesOf(rows: readonly EncodedRow[]): Pick<EncoderForwardOptions, 'tasks'> {
  const tasks = tasksOf(rows);
  return tasks === undefined ? {} : { tasks };
}

/** Rows for the loss of a model. */
export const routedInputs = (model: TaskModel, rows: readonly EncoderRow[]): EncoderRows & Pick<EncoderForwardOptions, 'tasks'> => ({
  ...inputsOf(model, rows),
  ...routesOf(rows),
});

/** Tokens of rows. */
export const countTokens = (model: TaskModel, rows: readonly EncoderRow[]): number =>
  rows.reduce((sum, { input }) => sum + tokensOf(model, input), 0);

/** Rows that are read at once for an evaluation, of text and of files. */
const kTextsTogether = 4096;
const kFilesTogether = 64;
const kDefaultBatch = 8;

/** Hands all rows of a set to `visit`, those of similar length together and of other shapes apart; `places` are their numbers. */
export async function eachBatch<R extends EncoderRow>(
  model: TaskModel,
  set: RowSet<R>,
  { batch = kDefaultBatch, signal, onProgress }: MeasureOptions,
  visit: (rows: readonly R[], places: readonly number[]) => Promise<void>,
): Promise<void> {
  const together = model.network.modality === 'text' ? kTextsTogether : kFilesTogether;
  for (let start = 0; start < set.length; start += together) {
    const indices = Array.from({ length: Math.min(together, set.length - start) }, (_, index) => start + index);
    const rows = await set.rows(indices);
    const size = (place: number): number => {
      const input = rows[place]?.input;
      return input !== undefined && isTokens(input as ExampleInput) ? tokensOf(model, input) : 0;
    };
    const order = [...rows.keys()].filter((place) => rows[place] !== undefined).sort((a, b) => size(b) - size(a) || a - b);
    for (let at = 0; at < order.length; at += batch) {
      throwIfAborted(signal, 'evaluate');
      const own = order.slice(at, at + batch);
      for (const group of batchable(own.map((place) => rows[place]?.input as ExampleInput))) {
        const places = group.map((index) => own[index] as number);
        await visit(
          places.map((place) => rows[place] as R),
          places.map((place) => start + place),
        );
      }
      onProgress?.({ rows: start + Math.min(at + batch, order.length), total: set.length });
    }
  }
}

/** The loss of rows whose targets are classes, with the logits of those that count. */
export function outputsOf(model: TaskModel, rows: readonly EncoderRow[], targets: TaskTargets): (pass: LossPass) => TaskOutputs {
  return (pass) => outputsOfAnswer(model, wide(model.forward(inputsOf(model, rows), { ...pass, ...routesOf(rows) })), targets);
}

const outputsOfAnswer = ({ task }: TaskModel, answer: Tensor, targets: TaskTargets): TaskOutputs => ({
  loss: taskLoss(task, answer, targets, 'sum'),
  logits: answer.rank === 2 ? answer : ofTokens(answer, targets),
});

/** The logits [B, T, L] of tokens that have a target: [targets, L]. */
function ofTokens(answer: Tensor, targets: TaskTargets): Tensor {
  const [rows = 0, width = 0, classes = 0] = answer.shape;
  const places = (targets as readonly (readonly number[])[]).flatMap((row, b) =>
    row.flatMap((target, t) => (target === ignoredTarget ? [] : [b * width + t])),
  );
  return indexSelect(reshape(answer, [rows * width, classes]), 0, tensor(Int32Array.from(places)));
}

/** What `read` makes of the model's answer to each row, in the order of the rows; an answer is the values of one row. */
export async function gather<Target, A>(
  model: TaskModel,
  set: RowSet<EncoderRow<Target>>,
  options: MeasureOptions,
  read: (row: EncoderRow<Target>, answer: Float32Array) => A,
): Promise<A[]> {
  const found: A[] = [];
  await eachBatch(model, set, options, async (rows, places) => {
    const { values } = await valuesOf(() => model.forward(inputsOf(model, rows), { training: false, ...routesOf(rows) }));
    const width = values.length / rows.length;
    for (const [index, row] of rows.entries())
      found[places[index] as number] = read(row, values.subarray(index * width, (index + 1) * width));
  });
  // Rows that were left out are holes.
  return Object.values(found);
}

/** -log of the probability that logits give to a class, in nats. */
export function negativeLogLikelihood(logits: Float32Array, target: number): number {
  const largest = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  return Math.log(logits.reduce((sum, value) => sum + Math.exp(value - largest), 0)) - ((logits[target] as number) - largest);
}

/** The mean loss of an evaluation with its metrics. Throws `InvalidArgumentError` where there is no target. */
export function measured(set: RowSet<EncoderRow>, losses: readonly number[], rows: number, metrics: () => Measured['metrics']): Measured {
  if (losses.length === 0) throw new InvalidArgumentError(`evaluate: "${set.name}" has no target; got ${rows} rows without one`);
  return { loss: losses.reduce((sum, loss) => sum + loss, 0) / losses.length, metrics: metrics(), targets: losses.length, rows };
}

/** A made-up batch; undefined where nothing says how large the images or recordings of the model are. */
export function trialBatch(model: TaskModel, { rows, length }: RowShape, targets: TaskTargets): TaskBatch | undefined {
  const { modality, shape } = model.network;
  if (modality !== 'text' && shape.example === undefined) return undefined;
  const inputs = (): EncoderRows => {
    if (modality === 'text') return { ids: Array.from({ length: rows }, () => new Array<number>(length).fill(0)) };
    const values = zeros([rows, ...(shape.example as readonly number[])]);
    return modality === 'image' ? { pixels: values } : { features: values };
  };
  const tasks = new Array<number>(rows).fill(0);
  const loss = (pass: LossPass): Tensor => model.loss({ ...inputs(), targets, tasks, reduction: 'sum', ...pass });
  if (!model.task.endsWith('classification')) return { targets: rows, tokens: rows * length, loss };
  const outputs = (pass: LossPass): TaskOutputs => outputsOfAnswer(model, wide(model.forward(inputs(), { ...pass, tasks })), targets);
  return { targets: rows, tokens: rows * length, loss, outputs };
}
