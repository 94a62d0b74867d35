import test from 'ava';
import { InvalidArgumentError, noGrad, ShapeError, scope, type Tensor } from 'lorikeet';
import { qr } from 'lorikeet/linalg';
import { cast, normal, permute, tensor } from 'lorikeet/ops';

// Householder QR is backward stable: errors stay within a few units of the last place times the largest size used here (64).
const tolerances = { f64: 1e-13, f32: 1e-5 } as const;

async function rows(x: Tensor): Promise<number[][]> {
  const data = Array.from((await x.data()) as Float32Array | Float64Array);
  const width = x.shape.at(-1) ?? 1;
  return Array.from({ length: width === 0 ? 0 : data.length / width }, (_, i) => data.slice(i * width, (i + 1) * width));
}

function product(a: number[][], b: number[][]): number[][] {
  return a.map((row) => (b[0] ?? []).map((_, j) => row.reduce((sum, value, k) => sum + value * (b[k]?.[j] ?? 0), 0)));
}

function worst(a: number[][], b: number[][]): number {
  return Math.max(0, ...a.flatMap((row, i) => row.map((value, j) => Math.abs(value - (b[i]?.[j] ?? Number.NaN)))));
}

const transposed = (a: number[][]): number[][] => (a[0] ?? []).map((_, j) => a.map((row) => row[j] ?? 0));
const identity = (n: number): number[][] => Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => (i === j ? 1 : 0)));

const shapes = [
  [1, 1],
  [7, 3],
  [3, 7],
  [5, 5],
  [64, 33],
  [40, 64],
] as const;

for (const dtype of ['f64', 'f32'] as const) {
  for (const [m, n] of shapes) {
    test(`qr ${dtype} [${m}, ${n}]: q r = x, q orthonormal, r upper triangular`, async (t) => {
      await scope(async () => {
        const x = normal([m, n], { dtype, seed: m * 100 + n });
        const { q, r } = qr(x);
        const k = Math.min(m, n);
        t.deepEqual(q.shape, [m, k]);
        t.deepEqual(r.shape, [k, n]);
        const [xs, qs, rs] = [await rows(x), await rows(q), await rows(r)];
        t.true(worst(product(qs, rs), xs) < tolerances[dtype]);
        t.true(worst(product(transposed(qs), qs), identity(k)) < tolerances[dtype]);
        t.true(rs.every((row, i) => row.slice(0, i).every((value) => value === 0)));
      });
    });
  }
}

test('a 2 x 2 case by hand, with the signs of the reflections', async (t) => {
  // The first reflection sends [3, 4] to [-5, 0]; the second column [1, 2] has components -(3 + 8)/5 = -2.2 and, orthogonal to it, 2/5 in length.
  await scope(async () => {
    const { r } = qr(
      tensor(
        [
          [3, 1],
          [4, 2],
        ],
        { dtype: 'f64' },
      ),
    );
    const data = await r.data();
    t.true(Math.abs(Number(data[0]) + 5) < 1e-14);
    t.true(Math.abs(Number(data[1]) + 2.2) < 1e-14);
    t.true(Math.abs(Math.abs(Number(data[3])) - 0.4) < 1e-14);
  });
});

test('each matrix of a batch has the bits it has alone, and views are read in their own order', async (t) => {
  await scope(async () => {
    const x = normal([3, 9, 4], { seed: 5 });
    const batch = qr(permute(x, [0, 2, 1]));
    t.deepEqual(batch.q.shape, [3, 4, 4]);
    t.deepEqual(batch.r.shape, [3, 4, 9]);
    const all = await batch.r.data();
    const data = (await x.data()) as Float32Array;
    for (let b = 0; b < 3; b++) {
      const alone = permute(tensor(data.slice(b * 36, (b + 1) * 36), { shape: [9, 4] }), [1, 0]);
      t.deepEqual(await qr(alone).r.data(), all.slice(b * 36, (b + 1) * 36) as Float32Array);
    }
  });
});

test('16-bit values are widened', async (t) => {
  await scope(async () => {
    const x = cast(normal([9, 4], { seed: 5 }), 'bf16');
    t.is(qr(x).q.dtype, 'f32');
    t.deepEqual(await qr(x).r.data(), await qr(cast(x, 'f32')).r.data());
  });
});

test('empty matrices give empty factors', async (t) => {
  await scope(async () => {
    const { q, r } = qr(tensor(new Float32Array(0), { shape: [4, 0] }));
    t.deepEqual(q.shape, [4, 0]);
    t.deepEqual(r.shape, [0, 0]);
    t.is((await q.data()).length, 0);
  });
});

test('wrong input is a typed error', (t) => {
  scope(() => {
    t.throws(() => qr(tensor([1, 2, 3])), {
      instanceOf: ShapeError,
      message: 'qr: needs a matrix or a batch of matrices; got [3], expected [.., M, N]',
    });
    t.throws(() => qr(tensor([[1]], { dtype: 'i64' })), {
      instanceOf: InvalidArgumentError,
      message: 'qr: needs a floating dtype; got i64, cast it first',
    });
    const leaf = tensor([
      [1, 2],
      [3, 4],
    ]).setRequiresGrad(true);
    t.throws(() => qr(leaf), { instanceOf: InvalidArgumentError, message: /^qr: is not differentiable/ });
    t.notThrows(() => noGrad(() => qr(leaf)));
  });
});
