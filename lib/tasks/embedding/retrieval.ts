import { InvalidArgumentError } from '../../errors.js';
import { tensor } from '../../ops/create.js';
import { topK } from '../../ops/index-ops.js';
import { noGrad, scope } from '../../scope.js';
import { cosineMatrix } from './losses.js';

/** Vectors of one width, one after the other. */
export interface Vectors {
  readonly values: Float32Array;
  readonly width: number;
}

/** Cosines that are held at once. */
const kCosinesAtOnce = 1 << 22;

const countOf = ({ values, width }: Vectors): number => values.length / width;

/** The `k` vectors of the corpus with the highest cosine to each query, best first: exact search. Fewer where the corpus is smaller. */
export async function nearest(queries: Vectors, corpus: Vectors, k: number): Promise<number[][]> {
  const size = countOf(corpus);
  const together = Math.max(1, Math.floor(kCosinesAtOnce / size));
  const documents = tensor(corpus.values, { shape: [size, corpus.width] });
  const found: number[][] = [];
  try {
    for (let start = 0; start < countOf(queries); start += together) {
      const values = queries.values.subarray(start * queries.width, (start + together) * queries.width);
      const rows = values.length / queries.width;
      const width = Math.min(k, size);
      const indices = await scope(async () => {
        const asked = tensor(values, { shape: [rows, queries.width] });
        return Array.from(await noGrad(() => topK(cosineMatrix(asked, documents), width)).indices.data(), Number);
      });
      for (let row = 0; row < rows; row++) found.push(indices.slice(row * width, (row + 1) * width));
    }
    return found;
  } finally {
    documents.dispose();
  }
}

/** How well rankings find what is relevant: each the mean over queries. */
export interface RetrievalScores {
  /** Discounted cumulative gain of the first k, divided by that of the best ranking. */
  readonly ndcg: number;
  /** One divided by the rank of the first relevant document among the first k; 0 where there is none. */
  readonly mrr: number;
  /** Part of the relevant documents that is among the first k. */
  readonly recall: number;
}

/**
 * nDCG@k, MRR@k and recall@k of rankings (documents by number, best first) with the relevant documents of each query, all of which count
 * alike. Throws `InvalidArgumentError` for a query without a relevant document.
 */
export function retrievalScores(
  rankings: readonly (readonly number[])[],
  relevant: readonly ReadonlySet<number>[],
  k: number,
): RetrievalScores {
  if (rankings.length === 0 || rankings.length !== relevant.length)
    throw new InvalidArgumentError(
      `retrievalScores: got ${rankings.length} rankings for ${relevant.length} queries, expected one for each`,
    );
  let [ndcg, mrr, recall] = [0, 0, 0];
  for (const [query, ranking] of rankings.entries()) {
    const wanted = relevant[query] as ReadonlySet<number>;
    if (wanted.size === 0) throw new InvalidArgumentError(`retrievalScores: query ${query} has no relevant document`);
    const ranks = [...ranking.slice(0, k).keys()].filter((rank) => wanted.has(ranking[rank] as number));
    const ideal = Array.from({ length: Math.min(k, wanted.size) }, (_, rank) => rank);
    ndcg += gainOf(ranks) / gainOf(ideal);
    mrr += ranks.length === 0 ? 0 : 1 / ((ranks[0] as number) + 1);
    recall += ranks.length / wanted.size;
  }
  const count = rankings.length;
  return { ndcg: ndcg / count, mrr: mrr / count, recall: recall / count };
}

/** Discounted gain of relevant documents at these ranks, counted from 0. */
const gainOf = (ranks: readonly number[]): number => ranks.reduce((sum, rank) => sum + 1 / Math.log2(rank + 2), 0);
