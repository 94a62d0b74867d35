import type { RowSet } from '../../data/dataset.js';
import { collateInputs } from '../../data/encoder-input.js';
import { InvalidArgumentError, throwIfAborted } from '../../errors.js';
import { tensor } from '../../ops/create.js';
import { valuesOf } from '../../predict.js';
import { scope } from '../../scope.js';
import type { TaskModel } from '../../task-model.js';
import { routesOf } from '../encoder-rows.js';
import { pearson, spearman } from '../metrics.js';
import type { Measured, MeasureOptions } from '../task.js';
import { type EmbeddingLoss, isScored } from './config.js';
import { type EmbeddingRow, type EmbeddingText, keyOf, lossOfRows, termsOf, textsOf } from './objective.js';
import { nearest, retrievalScores, type Vectors } from './retrieval.js';

/** Rows that are read at once. */
const kReadTogether = 4096;
/** Consecutive rows that are compared with one another for the held-out loss. */
const kGroup = 64;
/** Documents of a ranking that count. */
const kRanked = 10;
const kDefaultBatch = 8;

/** Texts by what tells them apart, numbered in the order in which they came. */
class TextTable {
  readonly texts: EmbeddingText[] = [];
  readonly #numbers = new Map<string, number>();

  numberOf(text: EmbeddingText): number {
    const key = keyOf(text);
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    this.#numbers.set(key, this.texts.length);
    return this.texts.push(text) - 1;
  }
}

/**
 * How well embeddings do on held-out rows. The loss is that of groups of 64 rows in their order. Of pairs: nDCG@10, MRR@10 and recall@10 of
 * finding the positives of each anchor among all positives. Of scored pairs: the correlations of cosine and score. With `dimensions` the
 * metrics at each smaller width as well.
 */
export async function measureEmbeddings(
  model: TaskModel,
  loss: EmbeddingLoss,
  set: RowSet<EmbeddingRow>,
  options: MeasureOptions,
): Promise<Measured> {
  const rows = await rowsOf(set);
  if (rows.length === 0) throw new InvalidArgumentError(`evaluate: "${set.name}" has no rows to compare`);
  const table = new TextTable();
  for (const row of rows) for (const text of textsOf(row)) table.numberOf(text);
  const vectors = await vectorsOf(model, table.texts, set.length, options);
  const metricsOf = isScored(loss) ? correlations : rankingScores;
  const metrics = await metricsOf(rows, table, vectors);
  const narrower = (loss.dimensions ?? []).filter((size) => size < vectors.width);
  for (const size of narrower)
    for (const [name, value] of Object.entries(await metricsOf(rows, table, cut(vectors, size)))) metrics[`${name}-${size}`] = value;
  const targets = termsOf(loss, rows);
  return { loss: (await lossOf(rows, loss, table, vectors)) / targets, metrics, targets, rows: rows.length };
}

async function rowsOf(set: RowSet<EmbeddingRow>): Promise<EmbeddingRow[]> {
  const found: EmbeddingRow[] = [];
  for (let start = 0; start < set.length; start += kReadTogether) {
    const rows = await set.rows(Array.from({ length: Math.min(kReadTogether, set.length - start) }, (_, index) => start + index));
    found.push(...rows.filter((row) => row !== undefined));
  }
  return found;
}

/** The embeddings of texts; those of similar length go through the model together. */
async function vectorsOf(
  model: TaskModel,
  texts: readonly EmbeddingText[],
  total: number,
  { batch = kDefaultBatch, signal, onProgress }: MeasureOptions,
): Promise<Vectors> {
  const order = [...texts.keys()].sort((a, b) => lengthOf(texts, b) - lengthOf(texts, a) || a - b);
  let found: Vectors | undefined;
  for (let at = 0; at < order.length; at += batch) {
    throwIfAborted(signal, 'evaluate');
    const own = order.slice(at, at + batch);
    const inputs = own.map((place) => texts[place] as EmbeddingText);
    const { values, shape } = await valuesOf(() => model.forward(collateInputs('text', inputs), { training: false, ...routesOf(inputs) }));
    const width = shape[1] as number;
    found ??= { values: new Float32Array(texts.length * width), width };
    for (const [index, place] of own.entries()) found.values.set(values.subarray(index * width, (index + 1) * width), place * width);
    onProgress?.({ rows: Math.floor((total * Math.min(at + batch, order.length)) / order.length), total });
  }
  return found as Vectors;
}

const lengthOf = (texts: readonly EmbeddingText[], place: number): number => texts[place]?.ids.length ?? 0;

const vectorAt = ({ values, width }: Vectors, place: number): Float32Array => values.subarray(place * width, (place + 1) * width);

/** Vectors by number, one after the other. */
function chosen(vectors: Vectors, places: readonly number[]): Vectors {
  const values = new Float32Array(places.length * vectors.width);
  for (const [index, place] of places.entries()) values.set(vectorAt(vectors, place), index * vectors.width);
  return { values, width: vectors.width };
}

/** The first `width` values of each vector. */
function cut(vectors: Vectors, width: number): Vectors {
  const count = vectors.values.length / vectors.width;
  const values = new Float32Array(count * width);
  for (let place = 0; place < count; place++) values.set(vectorAt(vectors, place).subarray(0, width), place * width);
  return { values, width };
}

async function lossOf(rows: readonly EmbeddingRow[], loss: EmbeddingLoss, table: TextTable, vectors: Vectors): Promise<number> {
  let sum = 0;
  for (let start = 0; start < rows.length; start += kGroup)
    sum += await scope(() =>
      lossOfRows(loss, rows.slice(start, start + kGroup), (texts) => {
        const { values, width } = chosen(
          vectors,
          texts.map((text) => table.numberOf(text)),
        );
        return tensor(values, { shape: [texts.length, width] });
      }).item(),
    );
  return sum;
}

async function rankingScores(rows: readonly EmbeddingRow[], table: TextTable, vectors: Vectors): Promise<Record<string, number>> {
  const documents = [...new Set(rows.map(({ positive }) => table.numberOf(positive)))];
  const places = new Map(documents.map((document, place) => [document, place]));
  const relevant = new Map<number, Set<number>>();
  for (const { anchor, positive } of rows) {
    const query = table.numberOf(anchor);
    relevant.set(query, (relevant.get(query) ?? new Set()).add(places.get(table.numberOf(positive)) as number));
  }
  const rankings = await nearest(chosen(vectors, [...relevant.keys()]), chosen(vectors, documents), kRanked);
  const { ndcg, mrr, recall } = retrievalScores(rankings, [...relevant.values()], kRanked);
  return { [`ndcg@${kRanked}`]: ndcg, [`mrr@${kRanked}`]: mrr, [`recall@${kRanked}`]: recall };
}

async function correlations(rows: readonly EmbeddingRow[], table: TextTable, vectors: Vectors): Promise<Record<string, number>> {
  const cosines = rows.map(({ anchor, positive }) =>
    cosine(vectorAt(vectors, table.numberOf(anchor)), vectorAt(vectors, table.numberOf(positive))),
  );
  const scores = rows.map(({ score = 0 }) => score);
  return { pearson: pearson(cosines, scores), spearman: spearman(cosines, scores) };
}

function cosine(a: Float32Array, b: Float32Array): number {
  let [both, ownA, ownB] = [0, 0, 0];
  for (const [d, x] of a.entries()) {
    const y = b[d] as number;
    both += x * y;
    ownA += x * x;
    ownB += y * y;
  }
  return ownA === 0 || ownB === 0 ? 0 : both / Math.sqrt(ownA * ownB);
}
