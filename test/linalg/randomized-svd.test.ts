import test from 'ava';
import { InvalidArgumentError, ShapeError, scope } from 'lorikeet';
import { randomizedSvd, svd } from 'lorikeet/linalg';
import { normal, tensor } from 'lorikeet/ops';
import { apart, rebuilt, unorthogonal, withSpectrum } from '../helpers/matrices.js';
import { numbers } from '../helpers/numbers.js';

test('the leading triplets of the exact decomposition', async (t) => {
  await scope(async () => {
    const x = withSpectrum(
      60,
      45,
      Array.from({ length: 45 }, (_, i) => 0.8 ** i),
    );
    const { u, s, v } = randomizedSvd(x, { rank: 6, powerIterations: 4, seed: 1 });
    t.deepEqual([u.shape, s.shape, v.shape], [[60, 6], [6], [45, 6]]);
    const [got, exact] = [await numbers(s), await numbers(svd(x).s)];
    t.true(got.every((value, i) => Math.abs(value - (exact[i] ?? 0)) < 1e-5));
    t.true((await unorthogonal(u)) < 2e-6 && (await unorthogonal(v)) < 2e-6);
    // What is left is as large as the first value that was dropped.
    t.true(
      ((await numbers(svd(tensorDifference(await numbers(x), await numbers(rebuilt(u, s, v)), 60, 45)).s))[0] ?? 1) < 1.001 * 0.8 ** 6,
    );
  });
});

const tensorDifference = (a: number[], b: number[], rows: number, columns: number): ReturnType<typeof tensor> =>
  tensor(
    Float32Array.from(a, (value, i) => value - (b[i] ?? 0)),
    { shape: [rows, columns] },
  );

test('in each column of u the largest entry is positive, whatever the seed', async (t) => {
  await scope(async () => {
    const x = withSpectrum(30, 40, [8, 4, 2, 1, 0.1]);
    const runs = [1, 2, 3].map((seed) => randomizedSvd(x, { rank: 4, seed }));
    for (const { u } of runs) {
      const values = await numbers(u);
      for (let column = 0; column < 4; column++) {
        const own = values.filter((_, i) => i % 4 === column);
        t.is(Math.max(...own), Math.max(...own.map(Math.abs)));
      }
    }
    t.true((await apart(runs[0]!.u, runs[1]!.u)) < 1e-5 && (await apart(runs[1]!.v, runs[2]!.v)) < 1e-5);
  });
});

test('oversampling brings the values nearer; a batch works', async (t) => {
  await scope(async () => {
    const x = normal([80, 60], { seed: 3 });
    const exact = (await numbers(svd(x).s))[7] ?? 0;
    const last = async (oversample: number): Promise<number> =>
      (await numbers(randomizedSvd(x, { rank: 8, oversample, powerIterations: 1, seed: 1 }).s))[7] ?? 0;
    t.true((await last(0)) < (await last(20)) && (await last(20)) <= exact * 1.00001);
    t.deepEqual(randomizedSvd(normal([3, 12, 9], { seed: 1 }), { rank: 2, seed: 1 }).v.shape, [3, 9, 2]);
  });
});

test('wrong options are typed errors', (t) => {
  const x = tensor([[1, 2]]);
  for (const rank of [0, 2, 1.5]) {
    t.throws(() => randomizedSvd(x, { rank }), {
      instanceOf: InvalidArgumentError,
      message: `randomizedSvd: the rank does not fit; got ${rank} for [1, 2], expected 1 to 1`,
    });
  }
  t.throws(() => randomizedSvd(x, { rank: 1, oversample: -1 }), {
    instanceOf: InvalidArgumentError,
    message: 'randomizedSvd: oversample is not a whole number; got -1, expected 0 or more',
  });
  t.throws(() => randomizedSvd(tensor([1]), { rank: 1 }), {
    instanceOf: ShapeError,
    message: /^randomizedSvd: needs a matrix or a batch of matrices; got \[1\]/,
  });
});
