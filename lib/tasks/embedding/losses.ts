import { ConfigError, ShapeError } from '../../errors.js';
import { normalized } from '../../models/pooling.js';
import { arange, zeros } from '../../ops/create.js';
import { add, cast, less, mul, relu, sqrt, square, sub, where } from '../../ops/elementwise.js';
import { concat } from '../../ops/join.js';
import { matmul } from '../../ops/linalg.js';
import { logitsCrossEntropy } from '../../ops/loss.js';
import { mean, sum } from '../../ops/reduce.js';
import { narrow, reshape, transpose, unsqueeze } from '../../ops/shape.js';
import { logSumExp } from '../../ops/softmax.js';
import { scope } from '../../scope.js';
import type { Tensor } from '../../tensor.js';

/** Losses are computed in f32 at least. */
const wide = (x: Tensor): Tensor => (x.dtype === 'bf16' || x.dtype === 'f16' ? cast(x, 'f32') : x);

/** Throws `ShapeError` unless all are [B, D] with one D and, with `rows`, one B. */
function requireEmbeddings(what: string, embeddings: readonly Tensor[], rows = true): void {
  const [first] = embeddings;
  const fits = ({ shape }: Tensor): boolean =>
    shape.length === 2 && shape[1] === first?.shape[1] && (!rows || shape[0] === first?.shape[0]) && shape[0] !== 0;
  if (embeddings.every(fits)) return;
  const got = embeddings.map(({ shape }) => `[${shape.join(', ')}]`).join(', ');
  throw new ShapeError(`${what}: embeddings must be matrices of one width${rows ? ' and one number of rows' : ''}; got ${got}`);
}

/** Throws `ShapeError` unless there is a score for each of the embeddings [B, D]. */
function requireScores(what: string, { shape: [rows] }: Tensor, { shape }: Tensor): void {
  if (shape.length !== 1 || shape[0] !== rows)
    throw new ShapeError(`${what}: there must be a score for each pair; got [${shape.join(', ')}], expected [${rows}]`);
}

/** The cosine of every row of a [N, D] with every row of b [M, D]: [N, M]. */
export function cosineMatrix(a: Tensor, b: Tensor): Tensor {
  requireEmbeddings('cosineMatrix', [a, b], false);
  return scope(() => matmul(normalized(wide(a)), transpose(normalized(wide(b)))));
}

/** The cosine of each row of a [B, D] with the same row of b [B, D]: [B]. */
export function pairCosines(a: Tensor, b: Tensor): Tensor {
  requireEmbeddings('pairCosines', [a, b]);
  return scope(() => sum(mul(normalized(wide(a)), normalized(wide(b))), -1));
}

export interface MultipleNegativesOptions {
  /** [M, D]: texts that are wrong for all anchors; in a batch of triplets the hard negatives. */
  readonly negatives?: Tensor | undefined;
  /** Factor of the cosines, the inverse of a temperature. Default 20. */
  readonly scale?: number;
  /** Also asks every positive for its anchor among all anchors; the loss is the mean of both. Default false. */
  readonly symmetric?: boolean;
  /**
   * bool [B, B + M]: candidates (positives, then negatives) that an anchor is not compared with, such as second copies of its own positive.
   */
  readonly exclude?: Tensor | undefined;
}

/**
 * Multiple negatives ranking ("Efficient Natural Language Response Suggestion for Smart Reply"), InfoNCE over cosines ("Representation
 * Learning with Contrastive Predictive Coding"): cross-entropy of finding the positive of each anchor among those of the whole batch and
 * the negatives. Anchors and positives [B, D]; the mean over anchors, a number. `ShapeError` where shapes do not fit.
 */
export function multipleNegativesLoss(anchors: Tensor, positives: Tensor, options: MultipleNegativesOptions = {}): Tensor {
  const { negatives, scale = 20, symmetric = false, exclude } = options;
  requireEmbeddings('multipleNegativesLoss', [anchors, positives]);
  const rows = anchors.shape[0] as number;
  return scope(() => {
    const candidates = negatives === undefined ? positives : concat([positives, negatives], 0);
    const cosines = mul(cosineMatrix(anchors, candidates), scale);
    const scores = exclude === undefined ? cosines : where(exclude, Number.NEGATIVE_INFINITY, cosines);
    const own = arange(rows, { dtype: 'i64' });
    const forward = logitsCrossEntropy(scores, own);
    if (!symmetric) return forward;
    return mul(add(forward, logitsCrossEntropy(transpose(narrow(scores, 1, 0, rows)), own)), 0.5);
  });
}

/** Squared difference between the cosine of each pair and its score: a and b [B, D], scores [B]; the mean, a number. */
export function cosineLoss(a: Tensor, b: Tensor, scores: Tensor): Tensor {
  requireEmbeddings('cosineLoss', [a, b]);
  requireScores('cosineLoss', a, scores);
  return scope(() => mean(square(sub(pairCosines(a, b), scores))));
}

/**
 * "CoSENT: Consistent Sentence Embedding via Similarity Ranking": log(1 + Σ exp(scale · (cos_i − cos_j))) over all i, j of which pair j has
 * the higher score. Only the order of the scores counts. a and b [B, D], scores [B]; a number. `scale` is 20 by default.
 */
export function cosentLoss(a: Tensor, b: Tensor, scores: Tensor, { scale = 20 }: { readonly scale?: number } = {}): Tensor {
  requireEmbeddings('cosentLoss', [a, b]);
  requireScores('cosentLoss', a, scores);
  return scope(() => {
    const cosines = mul(pairCosines(a, b), scale);
    const rows = cosines.shape[0] as number;
    const differences = sub(unsqueeze(cosines, 1), unsqueeze(cosines, 0));
    const isLower = less(unsqueeze(scores, 1), unsqueeze(scores, 0));
    const terms = reshape(where(isLower, differences, Number.NEGATIVE_INFINITY), [rows * rows]);
    return logSumExp(concat([zeros([1], { dtype: terms.dtype }), terms], 0));
  });
}

/** Added to a squared distance: two equal vectors have a gradient, which is zero. */
const kShortestSquared = 1e-24;

const distances = {
  euclidean: (a: Tensor, b: Tensor) => sqrt(add(sum(square(sub(wide(a), wide(b))), -1), kShortestSquared)),
  cosine: (a: Tensor, b: Tensor) => sub(1, pairCosines(a, b)),
} as const satisfies Record<string, (a: Tensor, b: Tensor) => Tensor>;

/** How far two embeddings are from one another. */
export type EmbeddingDistance = keyof typeof distances;

export const kEmbeddingDistances = Object.keys(distances) as readonly EmbeddingDistance[];

export interface TripletOptions {
  /** Default `euclidean`. */
  readonly distance?: EmbeddingDistance;
  /** How much farther the negative has to be. Default 5, and 0.5 for cosine distance, which is 2 at most. */
  readonly margin?: number;
}

/**
 * Triplet loss ("FaceNet: A Unified Embedding for Face Recognition and Clustering"): max(0, distance to the positive − distance to the
 * negative + margin). All [B, D]; the mean over rows, a number.
 */
export function tripletLoss(anchors: Tensor, positives: Tensor, negatives: Tensor, options: TripletOptions = {}): Tensor {
  const { distance = 'euclidean', margin = distance === 'cosine' ? 0.5 : 5 } = options;
  requireEmbeddings('tripletLoss', [anchors, positives, negatives]);
  const between = distances[distance];
  return scope(() => mean(relu(add(sub(between(anchors, positives), between(anchors, negatives)), margin))));
}

export interface MatryoshkaOptions {
  /** How many of the first dimensions each embedding is to be good with. */
  readonly dimensions: readonly number[];
  /** Factor of the loss of each; default 1. */
  readonly weights?: readonly number[] | undefined;
}

/**
 * "Matryoshka Representation Learning": the sum of a loss over embeddings that are cut to their first `dimensions` and divided by their
 * length. `loss` gets them in the order of `embeddings` ([.., D] each). Throws `ConfigError` for dimensions that the embeddings do not
 * have.
 */
export function matryoshkaLoss(
  loss: (embeddings: readonly Tensor[]) => Tensor,
  embeddings: readonly Tensor[],
  { dimensions, weights = dimensions.map(() => 1) }: MatryoshkaOptions,
): Tensor {
  const width = embeddings[0]?.shape[1] ?? 0;
  if (dimensions.length === 0 || weights.length !== dimensions.length)
    throw new ConfigError(`matryoshkaLoss: got ${dimensions.length} dimensions and ${weights.length} weights, expected as many of both`);
  const wrong = dimensions.find((size) => !Number.isInteger(size) || size < 1 || size > width);
  if (wrong !== undefined) throw new ConfigError(`matryoshkaLoss: dimensions must be whole numbers from 1 to ${width}; got ${wrong}`);
  return scope(() =>
    dimensions
      .map((size, index) => mul(loss(embeddings.map((x) => normalized(narrow(wide(x), 1, 0, size)))), weights[index] as number))
      .reduce((total, part) => add(total, part)),
  );
}
