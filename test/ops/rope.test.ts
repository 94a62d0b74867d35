import test from 'ava';
import { type DType, InvalidArgumentError, ShapeError, type Tensor } from 'lorikeet';
import { narrow, permute, rope, tensor } from 'lorikeet/ops';
import { battery } from '../helpers/battery.js';
import { atEveryLevel, checkGradients, near, numbers, random, roundoff, sameBits, withoutLeaks, withThreads } from '../helpers/products.js';
import { cases } from './rope.cases.js';

battery(test, cases);

const dtypes: DType[] = ['f64', 'f32', 'bf16', 'f16'];
const make = (values: Float64Array, shape: readonly number[]): Tensor => tensor(values, { shape, dtype: 'f64' });

/** cos and sin of position · 10000^(-i / half). */
function tables(positions: number, half: number): { cos: Tensor; sin: Tensor } {
  const angle = (i: number): number => Math.floor(i / half) * 10000 ** (-(i % half) / half);
  const fill = (f: (x: number) => number): Tensor =>
    tensor(
      Float32Array.from({ length: positions * half }, (_, i) => f(angle(i))),
      { shape: [positions, half] },
    );
  return { cos: fill(Math.cos), sin: fill(Math.sin) };
}

function reference(x: Tensor, cos: Tensor, sin: Tensor, positions: readonly number[]): Float64Array {
  const [, , H = 0, K = 0] = x.shape;
  const half = cos.shape[1] ?? 0;
  const [values, c, s] = [numbers(x), numbers(cos), numbers(sin)];
  return values.map((value, i) => {
    const k = i % K;
    if (k >= 2 * half) return value;
    const angle = (positions[Math.floor(i / (H * K))] ?? 0) * half + (k % half);
    const partner = values[k < half ? i + half : i - half] ?? 0;
    return value * (c[angle] ?? 0) + (k < half ? -partner : partner) * (s[angle] ?? 0);
  });
}

test('whole and partial rotation at every level and dtype', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of dtypes) {
        for (const [B, T, H, K, half] of [
          [2, 3, 4, 8, 4],
          [1, 5, 1, 2, 1],
          [2, 3, 5, 4, 2],
          [2, 5, 3, 16, 8],
          [2, 2, 3, 80, 16],
          [1, 1, 2, 7, 3],
          [1, 3, 2, 6, 0],
          [3, 2, 1, 128, 64],
        ] as const) {
          const x = random([B, T, H, K], dtype);
          const { cos, sin } = tables(50, half);
          const positions = Array.from({ length: B * T }, (_, i) => (i * 17) % 50);
          const expected = reference(x, cos, sin, positions);
          const error = dtype === 'f64' ? 1e-15 : 2e-7 + (roundoff[dtype] ?? 0);
          const long = rope(x, cos, sin, tensor(BigInt64Array.from(positions, BigInt), { shape: [B, T] }));
          near(t, numbers(long), expected, error, `${level} ${dtype} [${[B, T, H, K]}] ${half}`);
          t.true(sameBits(long, rope(x, cos, sin, tensor(Int32Array.from(positions), { shape: [B, T] }))), `${level} ${dtype} i32`);
          const alone = rope(narrow(x, 2, H - 1, 1), cos, sin, tensor(Int32Array.from(positions), { shape: [B, T] }));
          t.true(sameBits(narrow(long, 2, H - 1, 1), alone), `${level} ${dtype} a head alone`);
        }
      }
      t.deepEqual(
        rope(random([0, 2, 3, 4]), random([5, 2]), random([5, 2]), tensor(new BigInt64Array(0), { shape: [0, 2] })).shape,
        [0, 2, 3, 4],
      );
    }),
  );
});

test('gradients against central differences in f64; backward turns back', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      const { cos, sin } = tables(9, 2);
      const positions = tensor(BigInt64Array.of(0n, 8n, 3n, 3n, 1n, 7n), { shape: [2, 3] });
      checkGradients(t, { x: random([2, 3, 2, 5], 'f64') }, ({ x }) => rope(x as Tensor, cos, sin, positions), make, level);
      const x = random([2, 3, 2, 5]).setRequiresGrad(true);
      const y = rope(x, cos, sin, positions);
      y.backward(y.detach());
      near(t, numbers(x.grad as Tensor), numbers(x), 1e-6, `${level} round trip`);
    }),
  );
});

test('views, batches and threads do not change bits', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      const { cos, sin } = tables(64, 8);
      const positions = tensor(
        BigInt64Array.from({ length: 3 * 64 }, (_, i) => BigInt(i % 64)),
        { shape: [3, 64] },
      );
      const x = permute(random([3, 2, 64, 16]), [0, 2, 1, 3]);
      const y = withThreads(1, () => rope(x, cos, sin, positions));
      t.true(
        sameBits(
          y,
          withThreads(3, () => rope(x, cos, sin, positions)),
        ),
        level,
      );
      const part = rope(narrow(narrow(x, 0, 1, 1), 1, 20, 7), cos, sin, narrow(narrow(positions, 0, 1, 1), 1, 20, 7));
      t.true(sameBits(narrow(narrow(y, 0, 1, 1), 1, 20, 7), part), level);
    }),
  );
});

test('wrong operands are errors that say what fits', async (t) => {
  const { cos, sin } = tables(9, 2);
  const x = random([1, 2, 1, 4]);
  const at = (...positions: number[]): Tensor => tensor(BigInt64Array.from(positions, BigInt), { shape: [1, positions.length] });
  await t.throwsAsync(rope(x, cos, sin, at(0, 9)).data(), {
    instanceOf: InvalidArgumentError,
    message: /^rope: a position is outside the tables; got 9 in row 0, expected 0 to 8/,
  });
  await t.throwsAsync(rope(x, cos, sin, at(-1, 0)).data(), { message: /got -1 in row 0/ });
  t.throws(() => rope(x, cos, sin, at(0)), {
    instanceOf: ShapeError,
    message: 'rope: positions have the wrong shape; got [1, 1], expected [B, T] of x [1, 2, 1, 4]',
  });
  t.throws(() => rope(random([1, 2, 1, 3]), cos, sin, at(0, 1)), {
    message: /^rope: tables do not fit; got cos \[9, 2\] and sin \[9, 2\] for x \[1, 2, 1, 3\]/,
  });
  t.throws(() => rope(random([2, 1, 4]), cos, sin, at(0, 1)), { message: /^rope: x must have four dimensions; got \[2, 1, 4\]/ });
  t.throws(() => rope(x, random([9, 2], 'bf16'), sin, at(0, 1)), { message: 'rope: tables must be f32; got cos bf16 and sin f32' });
  t.throws(() => rope(x, cos, sin, random([1, 2])), { message: 'rope: positions must be i64 or i32; got f32' });
});
