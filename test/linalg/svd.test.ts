import test from 'ava';
import { InvalidArgumentError, ShapeError, scope, type Tensor } from 'lorikeet';
import { svd } from 'lorikeet/linalg';
import { cast, matmul, mul, normal, permute, sub, tensor, transpose, unsqueeze } from 'lorikeet/ops';
import { withThreads } from '../helpers/engine.js';

const worst = async (x: Tensor): Promise<number> => Math.max(0, ...Array.from((await x.data()) as Float64Array, Math.abs));
const identity = (n: number): number[][] => Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => (i === j ? 1 : 0)));

for (const [dtype, tolerance] of [
  ['f64', 1e-13],
  ['f32', 2e-5],
] as const) {
  for (const [m, n] of [
    [1, 1],
    [7, 3],
    [3, 7],
    [5, 5],
    [64, 33],
    [40, 64],
  ] as const) {
    test(`svd ${dtype} [${m}, ${n}]: u s vt = x, orthonormal factors, values fall`, async (t) => {
      await scope(async () => {
        const x = normal([m, n], { dtype, seed: m * 100 + n });
        const { u, s, vt } = svd(x);
        const k = Math.min(m, n);
        t.deepEqual([u.shape, s.shape, vt.shape], [[m, k], [k], [k, n]]);
        t.true((await worst(sub(matmul(mul(u, unsqueeze(s, 0)), vt), x))) < tolerance);
        t.true((await worst(sub(matmul(transpose(u), u), tensor(identity(k), { dtype })))) < tolerance);
        t.true((await worst(sub(matmul(vt, transpose(vt)), tensor(identity(k), { dtype })))) < tolerance);
        const values = Array.from((await s.data()) as Float64Array);
        t.true(values.every((value, i) => value >= 0 && value <= (values[i - 1] ?? Number.POSITIVE_INFINITY)));
      });
    });
  }
}

test('values of a case by hand', async (t) => {
  // [[3, 0], [4, 5]]: the squares of the singular values sum to 50 and multiply to 225, so they are 45 and 5.
  const values = (await svd(
    tensor(
      [
        [3, 0],
        [4, 5],
      ],
      { dtype: 'f64' },
    ),
  ).s.data()) as Float64Array;
  t.true(Math.abs((values[0] ?? 0) - Math.sqrt(45)) < 1e-13 && Math.abs((values[1] ?? 0) - Math.sqrt(5)) < 1e-13);
});

test('each matrix of a batch has the bits it has alone, and views are read in their own order', async (t) => {
  await scope(async () => {
    const x = normal([2, 6, 4], { seed: 5 });
    const batch = svd(permute(x, [0, 2, 1]));
    t.deepEqual(
      [batch.u.shape, batch.s.shape, batch.vt.shape],
      [
        [2, 4, 4],
        [2, 4],
        [2, 4, 6],
      ],
    );
    const data = (await x.data()) as Float32Array;
    const all = (await batch.vt.data()) as Float32Array;
    for (let b = 0; b < 2; b++) {
      const alone = permute(tensor(data.slice(b * 24, (b + 1) * 24), { shape: [6, 4] }), [1, 0]);
      t.deepEqual(await svd(alone).vt.data(), all.slice(b * 24, (b + 1) * 24));
    }
  });
});

test('a long batch spread over threads has the bits of one thread; 16-bit values are widened', async (t) => {
  const run = (threads: number): unknown => withThreads(threads, () => scope(() => svd(normal([40, 21, 17], { seed: 8 })).u.dataSync()));
  const alone = run(1);
  for (let i = 0; i < 5; i++) t.deepEqual(run(4), alone);
  await scope(async () => {
    const x = cast(normal([9, 4], { seed: 5 }), 'f16');
    t.deepEqual(await svd(x).s.data(), await svd(cast(x, 'f32')).s.data());
  });
});

test('wrong input is a typed error; empty matrices give empty factors', async (t) => {
  t.throws(() => svd(tensor([1, 2, 3])), { instanceOf: ShapeError, message: /^svd: needs a matrix/ });
  t.throws(() => svd(tensor([[1]], { dtype: 'i64' })), {
    instanceOf: InvalidArgumentError,
    message: 'svd: needs a floating dtype; got i64, cast it first',
  });
  const leaf = tensor([
    [1, 2],
    [3, 4],
  ]).setRequiresGrad(true);
  t.throws(() => svd(leaf), { instanceOf: InvalidArgumentError, message: /not differentiable/ });
  t.is((await svd(tensor(new Float32Array(0), { shape: [4, 0] })).s.data()).length, 0);
});
