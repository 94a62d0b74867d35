import test from 'ava';
import { InvalidArgumentError, NonFiniteError, ShapeError, scope } from 'lorikeet';
import { cholesky, inverse, solve, solveTriangular } from 'lorikeet/linalg';
import { cast, matmul, normal, tensor, transpose } from 'lorikeet/ops';
import { apart, goldenMatrices, identity, unorthogonal } from '../helpers/matrices.js';

test("torch's solutions of a batch", async (t) => {
  await scope(async () => {
    const golden = await goldenMatrices();
    const [x, b] = [golden.get('dense.spd')!, golden.get('dense.b')!];
    const l = golden.get('dense.cholesky')!;
    t.true((await apart(solve(x, b), golden.get('dense.solution')!)) < 1e-4);
    t.true((await apart(solveTriangular(l, b), golden.get('dense.lower')!)) < 1e-4);
    t.true((await apart(solveTriangular(l, b, { transpose: true }), golden.get('dense.upper')!)) < 1e-4);
    t.true((await apart(solveTriangular(transpose(l), b, { upper: true }), golden.get('dense.upper')!)) < 1e-4);
    const twice = solveTriangular(cholesky(x), solveTriangular(cholesky(x), b), { transpose: true });
    t.true((await apart(twice, golden.get('dense.solution')!)) < 1e-4);
  });
});

for (const [dtype, tolerance] of [
  ['f32', 1e-3],
  ['f64', 1e-11],
] as const) {
  test(`${dtype}: a y = b where rows must be exchanged, and the inverse`, async (t) => {
    await scope(async () => {
      const a = normal([60, 60], { dtype, seed: 1 });
      const b = normal([60, 7], { dtype, seed: 2 });
      t.true((await apart(matmul(a, solve(a, b)), b)) < tolerance);
      t.true((await apart(matmul(a, inverse(a)), tensor(identity(60), { dtype }))) < tolerance);
      const turn = tensor(
        [
          [0, 1],
          [-1, 0],
        ],
        { dtype },
      );
      t.true((await unorthogonal(inverse(turn))) < 1e-12 && (await apart(inverse(turn), transpose(turn))) < 1e-12);
    });
  });
}

test('only the wanted triangle is read; bf16 is widened; a batch of inverses', async (t) => {
  await scope(async () => {
    const a = tensor([
      [2, 5],
      [7, 4],
    ]);
    const b = tensor([[2], [4]]);
    t.deepEqual([...(await solveTriangular(a, b).data())], [1, -0.75]);
    t.deepEqual([...(await solveTriangular(a, b, { upper: true }).data())], [-1.5, 1]);
    t.deepEqual([...(await solveTriangular(cast(a, 'bf16'), cast(b, 'bf16')).data())], [1, -0.75]);
    const two = normal([2, 4, 4], { dtype: 'f64', seed: 3 });
    t.true((await apart(matmul(two, inverse(two)), tensor([identity(4), identity(4)], { dtype: 'f64' }))) < 1e-12);
  });
});

test('singular and unfit systems are typed errors', async (t) => {
  const singular = tensor([
    [1, 2],
    [2, 4],
  ]);
  const b = tensor([[1], [1]]);
  await t.throwsAsync(solve(singular, b).data(), {
    instanceOf: InvalidArgumentError,
    message: /^solve: matrix 0 of the batch is singular; got a zero pivot in row 1, expected invertible ones/,
  });
  await t.throwsAsync(inverse(singular).data(), { instanceOf: InvalidArgumentError, message: /^solve: matrix 0 of the batch is singular/ });
  await t.throwsAsync(
    solveTriangular(
      tensor([
        [1, 0],
        [3, 0],
      ]),
      b,
    ).data(),
    {
      instanceOf: InvalidArgumentError,
      message: /^solveTriangular: matrix 0 of the batch is singular; got a zero pivot in row 1/,
    },
  );
  await t.throwsAsync(solve(tensor([[Number.NaN]]), tensor([[1]])).data(), {
    instanceOf: NonFiniteError,
    message: /^solve: the matrix holds NaN/,
  });
  await t.throwsAsync(solveTriangular(tensor([[1]]), tensor([[Number.NaN]])).data(), {
    instanceOf: NonFiniteError,
    message: /^solveTriangular: /,
  });
  t.throws(() => solve(singular, tensor([[1]])), {
    instanceOf: ShapeError,
    message: 'solve: sizes do not fit; got a [2, 2] and b [1, 1], expected [.., N, N] and [.., N, K]',
  });
  t.throws(() => solve(tensor([[1, 2]]), b), { instanceOf: ShapeError, message: /^solve: the matrices must be square; got \[1, 2\]/ });
  t.throws(() => solve(singular, cast(b, 'f64')), {
    instanceOf: InvalidArgumentError,
    message: 'solve: dtypes differ; got a f32 and b f64, expected one',
  });
});
