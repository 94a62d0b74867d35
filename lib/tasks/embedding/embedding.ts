import { collateInputs, type TokenInput } from '../../data/encoder-input.js';
import { textOf } from '../../data/example.js';
import { openRows } from '../../data/open-dataset.js';
import { describeValue, fieldOf, type Row } from '../../data/row.js';
import { rowTask } from '../../data/row-task.js';
import type { DataSource } from '../../data/source.js';
import { requireTaskFields } from '../../data/task-fields.js';
import { ConfigError, FormatError } from '../../errors.js';
import { tensor } from '../../ops/create.js';
import { indexSelect } from '../../ops/index-ops.js';
import { concat } from '../../ops/join.js';
import { readExample } from '../../read-example.js';
import type { TaskModel } from '../../task-model.js';
import type { Tensor } from '../../tensor.js';
import { routesOf } from '../encoder-rows.js';
import type { RowShape, Task, TaskBatch } from '../task.js';
import { type EmbeddingLoss, embeddingLossSchema, isScored } from './config.js';
import { measureEmbeddings } from './measure.js';
import { type EmbeddingRow, type EmbeddingText, lossOfRows, termsOf, textsOf } from './objective.js';

/**
 * Sentence embeddings that are near one another where texts belong together: pairs of an anchor and a positive, negatives beside them, or
 * pairs with a score. Rows of one forward pass are compared with one another. nDCG@10 decides, and of scored pairs the rank correlation.
 */
export function embedding(model: TaskModel, loss: EmbeddingLoss = embeddingLossSchema.parse({})): Task<EmbeddingRow> {
  const { modality } = model.network;
  if (modality !== 'text')
    throw new ConfigError(`train: embeddings are trained and evaluated on texts; got a model of ${modality}, expected one of text`);
  return {
    name: 'embedding',
    decides: { name: isScored(loss) ? 'spearman' : 'ndcg@10', higher: true },
    open: (sources, options) =>
      openRows(
        sources,
        (source) => {
          requireTaskFields(model.task, modality, source);
          const read = rowReader(model, loss, source, options.sequence);
          return {
            async encode(row) {
              const found = await read(row);
              return { row: found, ...(textsOf(found).every(hasWords) ? {} : { empty: 'got a text without words' }) };
            },
            length: countTokens,
          };
        },
        options,
      ),
    batch: (rows) => batchOf(model, loss, rows),
    inputs: (rows) => collateInputs('text', rows.flatMap(textsOf)),
    measure: (set, options = {}) => measureEmbeddings(model, loss, set, options),
    mostTokens: (sequence) => (isScored(loss) ? 2 : 3) * sequence,
    trial: (shape) => batchOf(model, loss, madeUpRows(model, loss, shape)),
  };
}

function batchOf(model: TaskModel, loss: EmbeddingLoss, rows: readonly EmbeddingRow[]): TaskBatch {
  return {
    targets: termsOf(loss, rows),
    tokens: rows.reduce((sum, row) => sum + countTokens(row), 0),
    loss: (pass) => {
      const embed = (texts: readonly EmbeddingText[]) => model.forward(collateInputs('text', texts), { ...pass, ...routesOf(texts) });
      return lossOfRows(loss, rows, (texts) => embedByLength(texts, embed));
    },
  };
}

/** Texts go through the model in groups of at least so many, and together while they have this part of the longest one's length. */
const kLeastTogether = 8;
const kSimilar = 0.75;

/** Embeddings [N, D] of texts in their order; those of similar length go through the model together, so that little of it is padding. */
function embedByLength(texts: readonly EmbeddingText[], forward: (texts: readonly EmbeddingText[]) => Tensor): Tensor {
  const length = (place: number): number => texts[place]?.ids.length ?? 0;
  const order = [...texts.keys()].sort((a, b) => length(b) - length(a) || a - b);
  const groups: number[][] = [];
  for (const place of order) {
    const open = groups.at(-1);
    if (open === undefined || (open.length >= kLeastTogether && length(place) < kSimilar * length(open[0] as number))) groups.push([place]);
    else open.push(place);
  }
  const parts = groups.map((group) => forward(group.map((place) => texts[place] as EmbeddingText)));
  const places = new BigInt64Array(texts.length);
  for (const [row, place] of order.entries()) places[place] = BigInt(row);
  return indexSelect(concat(parts, 0), 0, tensor(places));
}

/** Tokens of all texts of a row. */
const countTokens = (row: EmbeddingRow): number => textsOf(row).reduce((sum, { ids }) => sum + ids.length, 0);

const hasWords = ({ words }: TokenInput): boolean => words.some((word) => word >= 0);

function rowReader(model: TaskModel, loss: EmbeddingLoss, source: DataSource, sequence: number): (row: Row) => Promise<EmbeddingRow> {
  const { anchor = 'anchor', positive = 'positive', score = 'score' } = source;
  if (source.score !== undefined && !isScored(loss))
    throw new ConfigError(`data: "score" is not read by the loss ${loss.type}; expected loss cosine or cosent, or no score`);
  if (source.negative !== undefined && isScored(loss))
    throw new ConfigError(
      `data: "negative" is not read by the loss ${loss.type}; expected loss multiple-negatives or triplet, or no negative`,
    );
  const negative = source.negative ?? (loss.type === 'triplet' ? 'negative' : undefined);
  const readTask = rowTask(source.task);
  return async (row) => {
    const { where } = row;
    const task = readTask(row);
    const text = async (value: unknown, name: string): Promise<EmbeddingText> => ({
      ...((await readExample(model, textOf(value, name, where), { maxLength: sequence, where })) as EmbeddingText),
      where,
      ...task,
    });
    const negatives = negative === undefined ? [] : listOfTexts(fieldOf(row, negative));
    if (loss.type === 'triplet' && negatives.length === 0)
      throw new FormatError(`${where}: field "${negative}" is an empty list; expected a text or several`);
    return {
      where,
      ...task,
      anchor: await text(fieldOf(row, anchor), anchor),
      positive: await text(fieldOf(row, positive), positive),
      negatives: await Promise.all(negatives.map((value) => text(value, negative as string))),
      ...(isScored(loss) ? { score: scoreOf(row, score) } : {}),
    };
  };
}

const listOfTexts = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [value]);

/** A number, also as text. */
function scoreOf(row: Row, name: string): number {
  const value = fieldOf(row, name);
  const score = (typeof value === 'string' && value.trim() !== '') || typeof value === 'bigint' ? Number(value) : value;
  if (typeof score === 'number' && Number.isFinite(score)) return score;
  throw new FormatError(`${row.where}: field "${name}" is no score; got ${describeValue(value)}, expected a finite number`);
}

/** Rows whose texts together have the length of the shape. */
function madeUpRows({ network }: TaskModel, loss: EmbeddingLoss, { rows, length }: RowShape): EmbeddingRow[] {
  const count = Math.max(loss.type === 'triplet' ? 3 : 2, Math.ceil(length / network.shape.contextLength));
  const ids = new Array<number>(Math.max(1, Math.ceil(length / count))).fill(0);
  const text: EmbeddingText = { ids, words: ids, where: 'a made-up text', task: 0 };
  const scored = isScored(loss);
  return Array.from({ length: rows }, (_, row) => ({
    where: `row ${row + 1}`,
    task: 0,
    anchor: text,
    positive: text,
    negatives: scored ? [] : new Array<EmbeddingText>(count - 2).fill(text),
    ...(scored ? { score: row } : {}),
  }));
}
