import test from 'ava';
import {
  ConfigError,
  cosentLoss,
  cosineLoss,
  matryoshkaLoss,
  multipleNegativesLoss,
  ShapeError,
  scope,
  type Tensor,
  tripletLoss,
} from 'lorikeet';
import { tensor, zeros } from 'lorikeet/ops';
import { goldenFolder, readJson } from '../../helpers/folders.js';
import { centralDifferences } from '../../helpers/gradient-check.js';
import { near, numbers } from '../../helpers/numbers.js';
import { type OpCase, outputWeights } from '../../helpers/op-case.js';

interface Recorded {
  readonly loss: number;
  readonly gradients: readonly (readonly (readonly number[])[])[];
}

interface Golden {
  readonly anchors: readonly number[][];
  readonly positives: readonly number[][];
  readonly negatives: readonly number[][];
  readonly scores: readonly number[];
  readonly dimensions: readonly number[];
  readonly weights: readonly number[];
}

const golden = readJson<Golden>(goldenFolder, 'embedding-losses.json');
const recordedOf = (name: string): Recorded => (golden as unknown as Readonly<Record<string, Recorded>>)[name] as Recorded;

type Loss = (embeddings: readonly Tensor[]) => Tensor;

const scores = (like: Tensor | undefined): Tensor => tensor(golden.scores, { dtype: like?.dtype ?? 'f32' });
const [pairs, triplets] = [2, 3];
const { dimensions, weights } = golden;

const ranking =
  (options: { readonly scale?: number; readonly symmetric?: boolean } = {}): Loss =>
  ([anchors, positives, negatives]) =>
    multipleNegativesLoss(anchors as Tensor, positives as Tensor, { ...options, negatives });
const cosent =
  (options: { readonly scale?: number } = {}): Loss =>
  ([a, b]) =>
    cosentLoss(a as Tensor, b as Tensor, scores(a), options);
const triplet =
  (options: Parameters<typeof tripletLoss>[3]): Loss =>
  ([anchors, positives, negatives]) =>
    tripletLoss(anchors as Tensor, positives as Tensor, negatives as Tensor, options);

const losses: Readonly<Record<string, readonly [number, Loss]>> = {
  pairs: [pairs, ranking()],
  triplets: [triplets, ranking()],
  scale5: [triplets, ranking({ scale: 5 })],
  symmetric: [pairs, ranking({ symmetric: true })],
  symmetricTriplets: [triplets, ranking({ symmetric: true })],
  cosine: [pairs, ([a, b]) => cosineLoss(a as Tensor, b as Tensor, scores(a))],
  cosent: [pairs, cosent()],
  cosent5: [pairs, cosent({ scale: 5 })],
  euclidean: [triplets, triplet({})],
  cosineTriplet: [triplets, triplet({ distance: 'cosine' })],
  matryoshka: [triplets, (embeddings) => matryoshkaLoss(ranking(), embeddings, { dimensions, weights })],
  matryoshkaCosent: [pairs, (embeddings) => matryoshkaLoss(cosent(), embeddings, { dimensions, weights })],
};

const embeddings = (count: number, dtype: 'f32' | 'f64'): Tensor[] =>
  [golden.anchors, golden.positives, golden.negatives].slice(0, count).map((rows) => tensor(rows, { dtype }).setRequiresGrad(true));

for (const [name, [count, loss]] of Object.entries(losses)) {
  test.serial(`${name}: loss and gradients of sentence-transformers`, (t) =>
    scope(async () => {
      const inputs = embeddings(count, 'f32');
      const value = loss(inputs);
      value.backward();
      const recorded = recordedOf(name);
      near(t, [await value.item()], [recorded.loss], 1e-5, 'loss');
      for (const [index, input] of inputs.entries())
        near(t, await numbers(input.grad as Tensor), recorded.gradients[index]?.flat() ?? [], 1e-5, `gradient ${index}`);
    }),
  );

  test.serial(`${name}: gradients are those of differences in f64`, (t) =>
    scope(async () => {
      const inputs = embeddings(count, 'f64');
      loss(inputs).backward();
      const weight = outputWeights([], 0)[0] as number;
      const opCase = { run: (...given: Tensor[]) => loss(given) } as unknown as OpCase;
      for (const [index, expected] of centralDifferences(opCase, inputs).entries())
        near(
          t,
          (await numbers(inputs[index]?.grad as Tensor)).map((value) => value * weight),
          expected ?? [],
          1e-8,
          `gradient ${index}`,
        );
    }),
  );
}

test.serial('what is excluded is no candidate, for anchors and for positives', (t) =>
  scope(async () => {
    // Rows 0 and 1 have one positive.
    const [anchors, [first, , third]] = [golden.anchors.slice(0, 3), golden.positives];
    const positives = [first, first, third] as number[][];
    const exclude = tensor(
      [1, 2, 3].map((row) => [row === 2, row === 1, false]),
      { dtype: 'bool' },
    );
    for (const symmetric of [false, true]) {
      const got = await multipleNegativesLoss(tensor(anchors), tensor(positives), { exclude, symmetric }).item();
      const candidates = [
        [0, 2],
        [1, 2],
        [2, 0, 1],
      ];
      const alone = candidates.map((rows) =>
        firstLoss(
          rows.map((row) => anchors[row] ?? []),
          rows.map((row) => positives[row] ?? []),
          symmetric,
        ),
      );
      near(t, [got], [alone.reduce((a, b) => a + b, 0) / 3], 1e-5, `symmetric ${symmetric}`);
    }
  }),
);

/** The loss of the first row among others, written out. */
function firstLoss(anchors: readonly number[][], positives: readonly number[][], symmetric: boolean): number {
  const dot = (x: number[], y: number[]): number => x.reduce((sum, value, d) => sum + value * (y[d] as number), 0);
  const cosine = (x: number[], y: number[]): number => dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y));
  const entropy = (values: number[]): number =>
    Math.log(values.reduce((sum, value) => sum + Math.exp(20 * value), 0)) - 20 * (values[0] as number);
  const [anchor, positive] = [anchors[0] as number[], positives[0] as number[]];
  const forward = entropy(positives.map((other) => cosine(anchor, other)));
  return symmetric ? (forward + entropy(anchors.map((other) => cosine(other, positive)))) / 2 : forward;
}

test.serial('equal vectors have gradients that are finite', (t) =>
  scope(async () => {
    const [a, b] = [
      zeros([2, 3]).setRequiresGrad(true),
      tensor([
        [1, 2, 3],
        [0, 0, 0],
      ]).setRequiresGrad(true),
    ];
    for (const loss of [tripletLoss(a, b, b), tripletLoss(b, b, a), multipleNegativesLoss(a, b), cosentLoss(a, b, tensor([0, 1]))]) {
      loss.backward();
      for (const x of [a, b]) {
        t.true((await numbers(x.grad as Tensor)).every(Number.isFinite));
        x.clearGrad();
      }
    }
  }),
);

test.serial('what does not fit is an error', (t) => {
  const [a, b] = [zeros([2, 4]), zeros([3, 4])];
  t.throws(() => multipleNegativesLoss(a, b), { instanceOf: ShapeError, message: /one number of rows; got \[2, 4\], \[3, 4\]/ });
  t.throws(() => multipleNegativesLoss(a, a, { negatives: zeros([1, 5]) }), { instanceOf: ShapeError });
  t.throws(() => cosentLoss(a, a, zeros([3])), { instanceOf: ShapeError, message: /score for each pair; got \[3\], expected \[2\]/ });
  t.throws(() => matryoshkaLoss(() => a, [a], { dimensions: [8] }), { instanceOf: ConfigError, message: /from 1 to 4; got 8/ });
  t.throws(() => matryoshkaLoss(() => a, [a], { dimensions: [2, 4], weights: [1] }), { instanceOf: ConfigError });
});
