import test from 'ava';
import { InvalidArgumentError, nearest, retrievalScores } from 'lorikeet';

const close = (got: number, expected: number): boolean => Math.abs(got - expected) < 1e-12;

test('scores of one relevant document by its rank', (t) => {
  const at = (rank: number) => retrievalScores([[7, 8, 9, 10].map((id, place) => (place === rank ? 1 : id))], [new Set([1])], 3);
  t.deepEqual(at(0), { ndcg: 1, mrr: 1, recall: 1 });
  t.true(close(at(1).ndcg, 1 / Math.log2(3)) && at(1).mrr === 0.5 && at(1).recall === 1);
  t.true(close(at(2).ndcg, 0.5) && close(at(2).mrr, 1 / 3));
  t.deepEqual(at(3), { ndcg: 0, mrr: 0, recall: 0 });
});

test('several relevant documents, and the mean over queries', (t) => {
  const scores = retrievalScores(
    [
      [4, 1, 5, 2],
      [0, 3, 1, 2],
    ],
    [new Set([1, 2, 9]), new Set([0])],
    4,
  );
  const [at2, at4] = [1 / Math.log2(3), 1 / Math.log2(5)];
  t.true(close(scores.ndcg, ((at2 + at4) / (1 + at2 + 0.5) + 1) / 2));
  t.true(close(scores.mrr, 0.75));
  t.true(close(scores.recall, (2 / 3 + 1) / 2));
  // More are relevant than there is room for: the best ranking fills the room.
  t.deepEqual(retrievalScores([[1, 2]], [new Set([1, 2, 3])], 2), { ndcg: 1, mrr: 1, recall: 2 / 3 });
});

test('a query needs something to find', (t) => {
  t.throws(() => retrievalScores([[1]], [new Set()], 1), { instanceOf: InvalidArgumentError, message: /query 0 has no relevant document/ });
  t.throws(() => retrievalScores([], [], 1), { instanceOf: InvalidArgumentError });
});

test('nearest: exact search by cosine, whatever the lengths', async (t) => {
  const corpus = { values: Float32Array.from([10, 0, 0, 0.1, -3, 0, 1, 1]), width: 2 };
  const queries = { values: Float32Array.from([1, 0.1, -0.2, 5]), width: 2 };
  t.deepEqual(await nearest(queries, corpus, 3), [
    [0, 3, 1],
    [1, 3, 2],
  ]);
  t.deepEqual(
    (await nearest(queries, corpus, 10)).map((ranking) => ranking.length),
    [4, 4],
  );
});
