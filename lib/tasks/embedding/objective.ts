import type { TokenInput } from '../../data/encoder-input.js';
import type { EncodedRow } from '../../data/row-encoding.js';
import { tensor } from '../../ops/create.js';
import { mul } from '../../ops/elementwise.js';
import type { Tensor } from '../../tensor.js';
import type { EmbeddingLoss } from './config.js';
import { cosentLoss, cosineLoss, matryoshkaLoss, multipleNegativesLoss, tripletLoss } from './losses.js';

/** A text of a row, with where it is from and its task. */
export interface EmbeddingText extends TokenInput, EncodedRow {}

/** Texts that belong together, texts that do not belong to the anchor, or two texts with a score. */
export interface EmbeddingRow extends EncodedRow {
  readonly anchor: EmbeddingText;
  readonly positive: EmbeddingText;
  readonly negatives: readonly EmbeddingText[];
  /** How similar anchor and positive are. */
  readonly score?: number;
}

/** Embeddings [N, D] of texts. */
export type Embed = (texts: readonly EmbeddingText[]) => Tensor;

/** All texts of a row. */
export const textsOf = ({ anchor, positive, negatives }: EmbeddingRow): EmbeddingText[] => [anchor, positive, ...negatives];

/** What tells texts apart. */
export const keyOf = ({ ids, task }: EmbeddingText): string => (task === undefined ? ids.join(' ') : `${task}: ${ids.join(' ')}`);

/** Terms that the loss of rows is the mean of: one a row, and of triplets one a negative. */
export const termsOf = ({ type }: EmbeddingLoss, rows: readonly EmbeddingRow[]): number =>
  type === 'triplet' ? rows.reduce((sum, { negatives }) => sum + negatives.length, 0) : rows.length;

/** The sum of the losses of rows that are compared with one another: the mean times its terms. */
export function lossOfRows(loss: EmbeddingLoss, rows: readonly EmbeddingRow[], embed: Embed): Tensor {
  const { dimensions, weights } = loss;
  const { embeddings, compare } = comparisonOf(loss, rows, embed);
  const mean = dimensions === undefined ? compare(embeddings) : matryoshkaLoss(compare, embeddings, { dimensions, weights });
  return mul(mean, termsOf(loss, rows));
}

/** The embeddings that a loss compares, and how. */
interface Comparison {
  readonly embeddings: readonly Tensor[];
  readonly compare: (embeddings: readonly Tensor[]) => Tensor;
}

function comparisonOf(loss: EmbeddingLoss, rows: readonly EmbeddingRow[], embed: Embed): Comparison {
  const { scale = 20, symmetric = false, distance = 'euclidean', margin } = loss;
  const column = (texts: (row: EmbeddingRow) => readonly EmbeddingText[]): Tensor[] => {
    const found = rows.flatMap(texts);
    return found.length === 0 ? [] : [embed(found)];
  };
  const positives = column(({ positive }) => [positive]);
  switch (loss.type) {
    case 'multiple-negatives': {
      const exclude = excludedOf(rows);
      const embeddings = [...column(({ anchor }) => [anchor]), ...positives, ...column(({ negatives }) => negatives)];
      return {
        embeddings,
        compare: ([anchors, own, negatives]) =>
          multipleNegativesLoss(anchors as Tensor, own as Tensor, { negatives, scale, symmetric, exclude }),
      };
    }
    case 'triplet': {
      const repeated = (text: (row: EmbeddingRow) => EmbeddingText) => column((row) => row.negatives.map(() => text(row)));
      const embeddings = [
        ...repeated(({ anchor }) => anchor),
        ...repeated(({ positive }) => positive),
        ...column(({ negatives }) => negatives),
      ];
      return {
        embeddings,
        compare: ([anchors, own, negatives]) =>
          tripletLoss(anchors as Tensor, own as Tensor, negatives as Tensor, { distance, ...(margin === undefined ? {} : { margin }) }),
      };
    }
    default: {
      const embeddings = [...column(({ anchor }) => [anchor]), ...positives];
      const scored = (a: Tensor | undefined): Tensor =>
        tensor(
          rows.map(({ score = 0 }) => score),
          { dtype: a?.dtype === 'f64' ? 'f64' : 'f32' },
        );
      return {
        embeddings,
        compare: ([a, b]) =>
          loss.type === 'cosine'
            ? cosineLoss(a as Tensor, b as Tensor, scored(a))
            : cosentLoss(a as Tensor, b as Tensor, scored(a), { scale }),
      };
    }
  }
}

/**
 * bool [B, B + M]: candidates that are right for an anchor without being the positive of its row, because another row of the batch has the
 * same anchor or the same positive. Undefined where there are none.
 */
function excludedOf(rows: readonly EmbeddingRow[]): Tensor | undefined {
  const anchors = rows.map(({ anchor }) => keyOf(anchor));
  const candidates = [...rows.map(({ positive }) => positive), ...rows.flatMap(({ negatives }) => negatives)].map(keyOf);
  const right = new Map<string, Set<string>>();
  for (const [row, anchor] of anchors.entries()) right.set(anchor, (right.get(anchor) ?? new Set()).add(candidates[row] as string));
  const excluded = anchors.map((anchor, row) =>
    candidates.map((candidate, column) => column !== row && right.get(anchor)?.has(candidate) === true),
  );
  return excluded.some((row) => row.includes(true)) ? tensor(excluded, { dtype: 'bool' }) : undefined;
}
