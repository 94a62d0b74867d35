import test from 'ava';
import { InvalidArgumentError, NonFiniteError, ShapeError, type Tensor } from 'lorikeet';
import { concat, narrow, repetitionPenalty, type SampleOptions, sample, tensor } from 'lorikeet/ops';
import { battery } from '../helpers/battery.js';
import { atEveryLevel, numbers, random, sameBits, withoutLeaks, withThreads } from '../helpers/products.js';
import { cases } from './sample.cases.js';

battery(test, cases);

/** The final distribution by sorting: probability of each token. */
function distribution(logits: ArrayLike<number>, { temperature = 1, topK = 0, topP = 1 }: SampleOptions): Float64Array {
  const order = Array.from(logits, (logit, i) => ({ logit, i })).sort((a, b) => b.logit - a.logit || a.i - b.i);
  const kept = topK === 0 ? order : order.slice(0, topK);
  const weights = kept.map(({ logit }) => Math.exp((logit - (order[0]?.logit ?? 0)) / temperature));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let count = 0;
  for (let sum = 0; count < weights.length && sum < topP * total * (1 - 1e-9); count++) sum += weights[count] ?? 0;
  const final = weights.slice(0, count).reduce((sum, weight) => sum + weight, 0);
  const probabilities = new Float64Array(logits.length);
  for (const [j, { i }] of kept.slice(0, count).entries()) probabilities[i] = (weights[j] ?? 0) / final;
  return probabilities;
}

const repeat = (row: Tensor, times: number): Tensor => concat(new Array<Tensor>(times).fill(row), 0);

test('temperature 0 takes the first of the largest', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      const logits = tensor([
        [1, 3, 3, 2],
        [-1, -2, -1, -5],
        [-Infinity, -Infinity, 0, -Infinity],
      ]);
      const { ids, logProbabilities, rawLogProbabilities } = sample(logits, { temperature: 0, topK: 2, topP: 0.5 });
      t.deepEqual(Array.from(numbers(ids)), [1, 0, 2], level);
      t.deepEqual(Array.from(numbers(logProbabilities)), [0, 0, 0]);
      const expected = Math.log(Math.exp(3) / (Math.exp(1) + 2 * Math.exp(3) + Math.exp(2)));
      t.true(Math.abs((numbers(rawLogProbabilities)[0] ?? 0) - expected) < 1e-6);
      t.is(numbers(rawLogProbabilities)[2], 0);
    }),
  );
});

test('draws follow the cut distribution, and probabilities are those of the formula', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      const draws = 4000;
      for (const options of [
        {},
        { temperature: 0.7 },
        { topK: 5 },
        { topP: 0.6 },
        { temperature: 1.5, topK: 20, topP: 0.8 },
        { topK: 1 },
        { topP: 1e-9 },
      ]) {
        const row = random([1, 50], 'f32', 2);
        const what = `${level} ${JSON.stringify(options)}`;
        const probabilities = distribution(numbers(row), options);
        const raw = distribution(numbers(row), {});
        const { ids, logProbabilities, rawLogProbabilities } = sample(repeat(row, draws), { ...options, seed: 3 });
        const [chosen, logs, raws] = [numbers(ids), numbers(logProbabilities), numbers(rawLogProbabilities)];
        const counts = new Float64Array(50);
        for (const [j, id] of chosen.entries()) {
          counts[id] = (counts[id] ?? 0) + 1;
          if (!(Math.abs((logs[j] ?? 0) - Math.log(probabilities[id] ?? 0)) < 1e-5)) t.fail(`${what}: log probability ${logs[j]} of ${id}`);
          if (!(Math.abs((raws[j] ?? 0) - Math.log(raw[id] ?? 0)) < 1e-5)) t.fail(`${what}: raw log probability ${raws[j]} of ${id}`);
        }
        for (const [id, probability] of probabilities.entries()) {
          // Five standard deviations of a binomial count, and one draw.
          const allowed = 5 * Math.sqrt(draws * probability * (1 - probability)) + (probability > 0 ? 1 : 0);
          t.true(
            Math.abs((counts[id] ?? 0) - draws * probability) <= allowed,
            `${what}: ${counts[id]} of ${draws * probability} for ${id}`,
          );
        }
      }
    }),
  );
});

test('equal logits compete in order of index', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      const logits = repeat(tensor([[0, 5, 2, 2, 5, 2, -0, 2]]), 500);
      const seen = (options: SampleOptions): number[] => [...new Set(numbers(sample(logits, options).ids))].sort();
      t.deepEqual(seen({ topK: 3, temperature: 4 }), [1, 2, 4], level);
      t.deepEqual(seen({ topK: 4, temperature: 4 }), [1, 2, 3, 4]);
      t.deepEqual(seen({ topK: 7, temperature: 50 }), [0, 1, 2, 3, 4, 5, 7]);
      // Shares at temperature 1: 0.452 for each 5, 0.0225 for each 2.
      t.deepEqual(seen({ topP: 0.43 }), [1]);
      t.deepEqual(seen({ topP: 0.5 }), [1, 4]);
      t.deepEqual(seen({ topP: 0.88, topK: 4 }), [1, 4]);
      t.deepEqual(seen({ topP: 0.94 }), [1, 2, 3, 4]);
    }),
  );
});

test('large vocabularies agree with sorting', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      const row = random([1, 32003], 'f32', 3);
      for (const options of [{ topK: 100 }, { topP: 0.5, temperature: 0.9 }, { topK: 10000, topP: 0.97 }]) {
        const probabilities = distribution(numbers(row), options);
        const { ids, logProbabilities } = sample(repeat(row, 20), { ...options, seed: 8n });
        const logs = numbers(logProbabilities);
        for (const [j, id] of numbers(ids).entries())
          t.true(Math.abs((logs[j] ?? 0) - Math.log(probabilities[id] ?? 0)) < 1e-4, `${level} ${JSON.stringify(options)} ${id}`);
      }
    }),
  );
});

test('draws depend on seed, step and row alone', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      const row = random([1, 1000]);
      const logits = repeat(row, 64);
      const options = { topK: 200, seed: 2n ** 63n + 5n, step: 4 };
      const first = withThreads(1, () => sample(logits, options).ids);
      t.true(
        sameBits(
          first,
          withThreads(3, () => sample(logits, options).ids),
        ),
        level,
      );
      t.false(sameBits(first, sample(logits, { ...options, step: 5 }).ids));
      t.false(sameBits(first, sample(logits, { ...options, seed: 5 }).ids));
      t.true(new Set(numbers(first)).size > 20);
      // One seed a row: a row draws as it would alone.
      const seeds = Array.from({ length: 64 }, (_, i) => i * 7);
      const each = sample(logits, { ...options, seed: seeds }).ids;
      for (const b of [0, 1, 63])
        t.true(sameBits(narrow(each, 0, b, 1), sample(row, { ...options, seed: [b * 7] }).ids), `${level} row ${b}`);
    }),
  );
});

test('repetition penalty acts once on each token seen', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, () => {
      const logits = tensor([
        [1, -2, 3, 0],
        [1, -2, 3, -4],
      ]);
      t.deepEqual(Array.from(numbers(repetitionPenalty(logits, [[0, 1, 1], [3]], 2))), [0.5, -4, 3, 0, 1, -2, 3, -8]);
      t.deepEqual(
        Array.from(numbers(repetitionPenalty(logits, tensor(BigInt64Array.of(-1n, 2n), { shape: [2, 1] }), 2))),
        [1, -2, 3, 0, 1, -2, 1.5, -4],
      );
      t.true(sameBits(repetitionPenalty(logits, [[], []], 2), logits));
      t.is(repetitionPenalty(random([1, 3], 'bf16'), [[1]], 1.3).dtype, 'bf16');
    }),
  );
});

test('wrong options and logits are errors', async (t) => {
  const logits = random([2, 4]);
  t.throws(() => sample(random([4])), {
    instanceOf: ShapeError,
    message: 'sample: logits have the wrong shape; got [4], expected [B, V] with V > 0',
  });
  t.throws(() => sample(logits, { temperature: -1 }), {
    instanceOf: InvalidArgumentError,
    message: 'sample: temperature must be a number from 0 on; got -1',
  });
  t.throws(() => sample(logits, { topK: -1 }), { message: 'sample: topK must not be negative; got -1' });
  t.throws(() => sample(logits, { topP: 0 }), { message: 'sample: topP must lie in (0, 1]; got 0' });
  t.throws(() => sample(logits, { seed: [1, 2, 3] }), { message: 'sample: one seed or one for each row; got 3 for 2 rows' });
  for (const bad of [Number.NaN, Infinity]) {
    await t.throwsAsync(
      sample(
        tensor([
          [0, 1],
          [0, bad],
        ]),
      ).ids.data(),
      { instanceOf: NonFiniteError, message: /^sample: logits of row 1 are not finite/ },
    );
  }
  await t.throwsAsync(sample(tensor([[-Infinity, -Infinity]]), { temperature: 0 }).ids.data(), {
    message: /logits of row 0 are not finite/,
  });
  t.throws(() => repetitionPenalty(logits, [[0], [1]], 0), { message: 'repetitionPenalty: the penalty must be positive; got 0' });
  t.throws(() => repetitionPenalty(logits, [[0]], 2), { message: /^repetitionPenalty: ids have the wrong shape; got \[1, 1\]/ });
  await t.throwsAsync(repetitionPenalty(logits, [[0], [4]], 2).data(), {
    message: /^repetitionPenalty: an id is out of range; got 4, expected less than 4/,
  });
});
