import test from 'ava';
import { InvalidArgumentError, NonFiniteError, ShapeError, scope } from 'lorikeet';
import { cholesky } from 'lorikeet/linalg';
import { add, cast, matmul, normal, tensor, transpose } from 'lorikeet/ops';
import { apart, goldenMatrices, identity } from '../helpers/matrices.js';
import { numbers } from '../helpers/numbers.js';

test("torch's factor of a batch", async (t) => {
  await scope(async () => {
    const golden = await goldenMatrices();
    t.true((await apart(cholesky(golden.get('dense.spd')!), golden.get('dense.cholesky')!)) < 1e-5);
  });
});

for (const [dtype, tolerance] of [
  ['f32', 1e-4],
  ['f64', 1e-11],
] as const) {
  test(`${dtype}: l lᵀ = x, zeros above the diagonal`, async (t) => {
    await scope(async () => {
      const root = normal([150, 150], { dtype, seed: 1 });
      const x = add(matmul(root, transpose(root)), tensor(identity(150), { dtype }));
      const l = cholesky(x);
      t.true((await apart(matmul(l, transpose(l)), x)) < tolerance * 150);
      t.true((await numbers(l)).every((value, i) => i % 150 <= Math.floor(i / 150) || value === 0));
    });
  });
}

test('a case by hand, of which only the lower triangle is read', async (t) => {
  const x = [
    [4, 99],
    [2, 10],
  ];
  t.deepEqual(await numbers(cholesky(tensor(x, { dtype: 'f64' }))), [2, 0, 1, 3]);
  t.deepEqual(await numbers(cholesky(cast(tensor(x), 'bf16'))), [2, 0, 1, 3]);
});

test('a pivot that is not positive is named', async (t) => {
  const bad = tensor([
    [
      [1, 0, 0],
      [0, 1, 0],
      [0, 0, 1],
    ],
    [
      [1, 0, 0],
      [0, -2, 0],
      [0, 0, 1],
    ],
  ]);
  await t.throwsAsync(cholesky(bad).data(), {
    instanceOf: InvalidArgumentError,
    message:
      /^cholesky: matrix 1 of the batch is not positive definite; got a pivot that is not positive in row 1, expected symmetric positive definite matrices/,
  });
});

test('wrong input is a typed error', async (t) => {
  t.throws(() => cholesky(tensor([[1, 2]])), { instanceOf: ShapeError, message: /^cholesky: the matrices must be square; got \[1, 2\]/ });
  t.throws(() => cholesky(tensor([1])), { instanceOf: ShapeError, message: /^cholesky: needs a matrix or a batch of matrices; got \[1\]/ });
  t.throws(() => cholesky(cast(tensor([[1]]), 'i32')), {
    instanceOf: InvalidArgumentError,
    message: /^cholesky: needs a floating dtype; got i32/,
  });
  await t.throwsAsync(cholesky(tensor([[Number.NaN]])).data(), { instanceOf: NonFiniteError, message: /^cholesky: the matrix holds NaN/ });
});
