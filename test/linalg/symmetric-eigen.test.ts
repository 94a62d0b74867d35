import test from 'ava';
import { InvalidArgumentError, NonFiniteError, ShapeError, scope } from 'lorikeet';
import { symmetricEigen } from 'lorikeet/linalg';
import { cast, matmul, mul, narrow, normal, select, tensor, transpose, unsqueeze } from 'lorikeet/ops';
import { apart, goldenMatrices, unorthogonal } from '../helpers/matrices.js';
import { numbers } from '../helpers/numbers.js';

test("torch's eigenvalues, and the space of the largest three", async (t) => {
  await scope(async () => {
    const golden = await goldenMatrices();
    const { values, vectors } = symmetricEigen(golden.get('dense.spd')!);
    t.true((await apart(values, golden.get('dense.values')!)) < 1e-4);
    const top = narrow(vectors, -1, 6, 3);
    t.true((await apart(matmul(top, transpose(top)), golden.get('dense.projector')!)) < 1e-4);
  });
});

for (const [dtype, tolerance] of [
  ['f32', 1e-4],
  ['f64', 1e-12],
] as const) {
  test(`${dtype}: x v = v diag(values), orthonormal vectors, rising values, only the lower triangle is read`, async (t) => {
    await scope(async () => {
      const half = normal([33, 33], { dtype, seed: 1 });
      const data = (await half.data()).slice() as Float64Array;
      for (let i = 0; i < 33; i++) for (let j = i + 1; j < 33; j++) data[i * 33 + j] = data[j * 33 + i] as number;
      const x = tensor(data, { shape: [33, 33], dtype });
      const { values, vectors } = symmetricEigen(half);
      t.true((await apart(matmul(x, vectors), mul(vectors, unsqueeze(values, 0)))) < tolerance);
      t.true((await unorthogonal(vectors)) < tolerance);
      const got = await numbers(values);
      t.true(got.every((value, i) => i === 0 || value >= (got[i - 1] ?? 0)));
    });
  });
}

test('a case by hand: [[2, 1], [1, 2]] has the eigenvalues 1 and 3', async (t) => {
  await scope(async () => {
    const { values } = symmetricEigen(
      tensor(
        [
          [2, 1],
          [1, 2],
        ],
        { dtype: 'f64' },
      ),
    );
    t.deepEqual(
      (await numbers(values)).map((value) => Math.round(value * 1e12) / 1e12),
      [1, 3],
    );
  });
});

test('each matrix of a batch has the bits it has alone; bf16 is widened', async (t) => {
  await scope(async () => {
    const x = normal([5, 8, 8], { seed: 2 });
    const { vectors } = symmetricEigen(x);
    for (let b = 0; b < 5; b++) t.deepEqual(await symmetricEigen(select(x, 0, b)).vectors.data(), await select(vectors, 0, b).data());
    const narrowed = cast(x, 'bf16');
    t.deepEqual(await symmetricEigen(narrowed).values.data(), await symmetricEigen(cast(narrowed, 'f32')).values.data());
  });
});

test('wrong input is a typed error', async (t) => {
  t.throws(() => symmetricEigen(tensor([[1, 2]])), {
    instanceOf: ShapeError,
    message: 'symmetricEigen: the matrices must be square; got [1, 2], expected [.., N, N]',
  });
  t.throws(() => symmetricEigen(tensor([[1]]).setRequiresGrad(true)), {
    instanceOf: InvalidArgumentError,
    message: /^symmetricEigen: is not differentiable/,
  });
  await t.throwsAsync(symmetricEigen(tensor([[Number.NaN]])).vectors.data(), {
    instanceOf: NonFiniteError,
    message: /^symmetricEigen: the matrix holds NaN/,
  });
  t.deepEqual(symmetricEigen(tensor(new Float32Array(0), { shape: [0, 0] })).values.shape, [0]);
});
