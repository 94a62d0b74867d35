import test from 'ava';
import { type DType, InvalidArgumentError, NonFiniteError, scope, synchronize, type Tensor } from 'lorikeet';
import {
  add,
  contiguous,
  fakeQuantize,
  full,
  kSignBits,
  linear,
  mul,
  narrow,
  normal,
  packSigns,
  packWeight,
  type SignBits,
  signCodeBook,
  signLinear,
  signQuantize,
  signUnpack,
  tensor,
} from 'lorikeet/ops';
import { battery } from '../helpers/battery.js';
import { numbers } from '../helpers/numbers.js';
import { atEveryLevel, sameBits, withThreads } from '../helpers/products.js';
import { bookOf, kEpsilon, momentsOf, nearest } from '../helpers/sign-reference.js';
import { cases } from './sign.cases.js';

battery(test, cases);

const bookValues = async (bits: SignBits): Promise<number[]> => Array.from(await numbers(signCodeBook(bits)));

test('the code books are those of the paper', async (t) => {
  const published: Record<number, readonly number[]> = {
    1: [0.67449],
    2: [0.377754, 1.26572],
    4: [0.10555, 0.319036, 0.540072, 0.775192, 1.034006, 1.333107, 1.707738, 2.265491],
  };
  for (const bits of [1, 2, 4] as const) {
    const values = await bookValues(bits);
    for (const [i, value] of (published[bits] as readonly number[]).entries())
      t.true(Math.abs((values[2 ** (bits - 1) + i] as number) - value) < 1e-6, `${bits} bits, value ${i}`);
  }
  t.true(Math.abs(((await bookValues(8)).at(-1) as number) - 2.809515) < 1e-5);
});

test('the code books are symmetric and those of another computation', async (t) => {
  for (const bits of kSignBits) {
    const values = await bookValues(bits);
    t.true(values.every((value, i) => Math.abs(value + (values[values.length - 1 - i] as number)) < 1e-12));
    t.true(
      values.every((value, i) => Math.abs(value - (bookOf(bits).values[i] as number)) < 1e-11),
      `${bits} bits`,
    );
  }
});

test('the error of rounding a normal distribution is as published', async (t) => {
  const published: Record<number, readonly [number, number]> = {
    1: [0.4732, 0.3786],
    2: [0.2659, 0.1292],
    4: [0.0745, 0.0118],
    8: [0.0223, 0.00185],
  };
  await scope(async () => {
    const x = normal([2000, 500], { seed: 3 });
    const exact = await numbers(x);
    for (const bits of kSignBits) {
      const rounded = await numbers(fakeQuantize(x, { bits }));
      let [absolute, square] = [0, 0];
      for (const [i, value] of rounded.entries()) {
        const error = value - (exact[i] as number);
        absolute += Math.abs(error) / rounded.length;
        square += error ** 2 / rounded.length;
      }
      const [expected, squared] = published[bits] as readonly [number, number];
      t.true(Math.abs(absolute / expected - 1) < 0.005, `${bits} bits: ${absolute}`);
      t.true(Math.abs(square / squared - 1) < 0.01, `${bits} bits: ${square}`);
    }
  });
});

/** Codes from bytes, the first in the lowest bits. */
const codesOf = (bytes: ArrayLike<number>, bits: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => ((bytes[Math.floor((i * bits) / 8)] as number) >> ((i * bits) % 8)) & (2 ** bits - 1));

test('codes, mean and deviation are those of plain numbers at every level, also where the last byte is not full', async (t) => {
  const checks: (() => Promise<void>)[] = [];
  for (const shape of [
    [1, 3],
    [5, 13],
    [33, 40],
    [130, 67],
  ]) {
    for (const bits of kSignBits) {
      atEveryLevel(t, (level) => {
        const w = normal(shape, { seed: 4, mean: 0.3, std: 0.02 });
        const [data, { codes, meta }] = [Array.from(w.dataSync() as Float32Array), signQuantize(w, { bits })];
        const [bytes, [mean, deviation]] = [codes.dataSync() as Uint8Array, meta.dataSync() as unknown as [number, number]];
        checks.push(async () => {
          const moments = momentsOf(data);
          t.is(bytes.length, Math.ceil((data.length * bits) / 8));
          t.true(Math.abs(mean / moments.mean - 1) < 1e-6 && Math.abs(deviation / moments.deviation - 1) < 1e-6);
          const got = codesOf(bytes, bits, data.length);
          const book = bookOf(bits);
          const wrong = data.filter((x, i) => {
            const z = (x - moments.mean) / (moments.deviation + kEpsilon);
            const unsure = book.thresholds.some((threshold) => Math.abs(z - threshold) < 1e-5);
            return !unsure && got[i] !== nearest(book, z).code;
          });
          t.deepEqual(wrong, [], `${level} ${bits} bits [${shape.join(', ')}]`);
        });
      });
    }
  }
  for (const check of checks) await check();
});

test('unpacked values are those that training saw, bit for bit, in every dtype', (t) => {
  for (const dtype of ['f32', 'bf16', 'f16'] as DType[]) {
    for (const bits of kSignBits) {
      atEveryLevel(t, (level) => {
        const w = normal([37, 45], { seed: 5, mean: -0.1, std: 0.7, dtype });
        t.true(sameBits(signUnpack(signQuantize(w, { bits }), dtype), fakeQuantize(w, { bits })), `${dtype} ${bits} bits ${level}`);
      });
    }
  }
});

test('half-way between two values the lower code is stored, and training sees the middle', async (t) => {
  await scope(async () => {
    const w = tensor([-1, 0, 1], { shape: [1, 3] });
    const { codes } = signQuantize(w);
    t.deepEqual(Array.from(await numbers(codes)), [0b100]);
    t.is((await numbers(fakeQuantize(w)))[1], 0);
  });
});

test('the result follows scale and shift of the matrix', async (t) => {
  await scope(async () => {
    const w = normal([24, 50], { seed: 6 });
    for (const bits of kSignBits) {
      const plain = await numbers(fakeQuantize(w, { bits }));
      const moved = await numbers(fakeQuantize(add(mul(w, 3), 0.5), { bits }));
      // Rounding may move a value over a threshold: to the neighbour, no further.
      const off = plain.filter((value, i) => Math.abs((moved[i] as number) - (3 * value + 0.5)) > 1e-4 * 3);
      t.true(off.length <= (bits === 8 ? 3 : 0), `${bits} bits: ${off.length}`);
    }
  });
});

test('the gradient is that of the straight-through form with mean and deviation differentiated', async (t) => {
  await scope(async () => {
    for (const bits of kSignBits) {
      for (const std of [1, 1e-3]) {
        const w = normal([6, 7], { seed: 7, mean: 0.02, std, dtype: 'f64' }).setRequiresGrad(true);
        const g = normal([6, 7], { seed: 8, dtype: 'f64' });
        fakeQuantize(w, { bits }).backward(g);
        const [data, weights, got] = [Array.from(await numbers(w)), await numbers(g), await numbers(w.grad as Tensor)];
        const start = momentsOf(data);
        const book = bookOf(bits);
        const gaps = data.map((x) => {
          const z = (x - start.mean) / (start.deviation + kEpsilon);
          return nearest(book, z).value - z;
        });
        // q - z is held: q follows z.
        const surrogate = (values: readonly number[]): number => {
          const { mean, deviation } = momentsOf(values);
          return values.reduce(
            (sum, x, i) => sum + (weights[i] as number) * (((x - mean) / (deviation + kEpsilon) + (gaps[i] as number)) * deviation + mean),
            0,
          );
        };
        const step = 1e-4 * std;
        const expected = data.map((_, i) => {
          const at = (by: number): number => surrogate(data.map((x, j) => (i === j ? x + by : x)));
          return (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step);
        });
        const largest = Math.max(...expected.map(Math.abs));
        const worst = Math.max(...expected.map((value, i) => Math.abs(value - (got[i] as number)))) / largest;
        t.true(worst < 1e-7, `${bits} bits, std ${std}: ${worst}`);
      }
    }
  });
});

test('gradients of a constant sum to themselves, in f32 and at every level alike', (t) => {
  for (const bits of kSignBits) {
    atEveryLevel(t, (level) => {
      const w = normal([30, 50], { seed: 9, std: 0.05 }).setRequiresGrad(true);
      fakeQuantize(w, { bits }).backward(full([30, 50], 2));
      const total = ((w.grad as Tensor).dataSync() as Float32Array).reduce((sum, x) => sum + x, 0);
      t.true(Math.abs(total / 3000 - 1) < 1e-5, `${bits} bits ${level}: ${total}`);
    });
  }
});

test('results do not depend on the number of threads', (t) => {
  const run = (): Tensor[] => {
    const w = normal([150, 200], { seed: 10 }).setRequiresGrad(true);
    const y = fakeQuantize(w, { bits: 2 });
    y.backward(normal([150, 200], { seed: 11 }));
    const { codes, meta } = signQuantize(w.detach(), { bits: 2 });
    return [y, w.grad as Tensor, codes, meta];
  };
  scope(() => {
    const [one, two] = [1, 2].map((count) => withThreads(count, run)) as [Tensor[], Tensor[]];
    for (const [i, x] of one.entries()) t.true(sameBits(x, two[i] as Tensor), `value ${i}`);
  });
});

/** Outputs and the gradient of x of products with a weight. */
function products(weight: ReturnType<typeof packWeight>, rows: number, dtype: DType): Tensor[] {
  const [n, k] = weight.shape as [number, number];
  const x = normal([rows, k], { seed: 12, dtype }).setRequiresGrad(true);
  const y = linear(x, weight, normal([n], { seed: 13 }));
  y.backward(normal([rows, n], { seed: 14, dtype }));
  return [y, x.grad as Tensor];
}

test('products from bits and their gradients have the bits of dense products', (t) => {
  for (const shape of [
    [70, 90],
    [97, 672],
    [64, 160],
    [5, 8],
  ] as [number, number][]) {
    for (const dtype of ['f32', 'bf16'] as const) {
      atEveryLevel(t, (level) => {
        const w = signQuantize(normal(shape, { seed: 15, std: 0.1, mean: 0.01 }));
        using bits = packSigns(w, dtype);
        using dense = packWeight(signUnpack(w, dtype));
        for (const rows of [1, 3, 4, 40]) {
          const expected = products(dense, rows, dtype);
          for (const [i, got] of products(bits, rows, dtype).entries())
            t.true(sameBits(got, expected[i] as Tensor), `${dtype} ${level} [${shape.join(', ')}] ${rows} rows: value ${i}`);
        }
      });
    }
  }
});

test('a product is μ S + σ v (2 P - S), with S the sum of a row and P that of its chosen entries', async (t) => {
  await scope(async () => {
    const w = signQuantize(normal([20, 64], { seed: 16, mean: 0.1 }));
    const x = normal([3, 64], { seed: 17 });
    const [y, xs, bytes, meta] = [await numbers(signLinear(x, w)), await numbers(x), await numbers(w.codes), await numbers(w.meta)];
    const [mean, deviation] = [meta[0] as number, meta[1] as number];
    const chosen = codesOf(bytes, 1, 20 * 64);
    const largest = Math.max(...Array.from(y, Math.abs));
    for (let row = 0; row < 3; row++) {
      const own = Array.from(xs.slice(row * 64, row * 64 + 64));
      const all = own.reduce((sum, value) => sum + value, 0);
      for (let j = 0; j < 20; j++) {
        const part = own.reduce((sum, value, k) => sum + (chosen[j * 64 + k] as number) * value, 0);
        const expected = mean * all + deviation * 0.6744897501960817 * (2 * part - all);
        t.true(Math.abs((y[row * 20 + j] as number) - expected) < 1e-5 * largest);
      }
    }
  });
});

test('a row has the same bits alone and in a batch', (t) => {
  for (const dtype of ['f32', 'bf16'] as const) {
    atEveryLevel(t, (level) => {
      const w = signQuantize(normal([100, 160], { seed: 18 }));
      const x = normal([50, 160], { seed: 19, dtype });
      const all = signLinear(x, w);
      for (const row of [0, 17, 49])
        t.true(sameBits(signLinear(narrow(x, 0, row, 1), w), contiguous(narrow(all, 0, row, 1))), `${dtype} ${level} row ${row}`);
    });
  }
});

test('what cannot be quantised is an error that names it', async (t) => {
  const failing = async (make: () => Tensor): Promise<unknown> => {
    using result = make();
    return result.data();
  };
  using constant = full([4, 5], 0.3);
  using broken = tensor([1, Number.NaN, 2, 3], { shape: [2, 2] });
  for (const op of [fakeQuantize, (w: Tensor, options: { name: string }) => signQuantize(w, options).codes]) {
    await t.throwsAsync(
      failing(() => op(constant, { name: 'blocks.0.up' })),
      {
        instanceOf: InvalidArgumentError,
        message: /"blocks\.0\.up".*\[4, 5\] are all the same.*truncated normal/,
      },
    );
    await t.throwsAsync(
      failing(() => op(broken, { name: 'blocks.0.up' })),
      { instanceOf: NonFiniteError, message: /"blocks\.0\.up"/ },
    );
  }
  await synchronize();
  t.throws(() => fakeQuantize(constant, { bits: 3 as 1 }), { message: /bits must be 1, 2, 4 or 8; got 3/ });
  await scope(async () => {
    const w = signQuantize(normal([4, 5], { seed: 1 }), { bits: 2 });
    t.throws(() => packSigns(w), { message: /1 bit; got 2 bits/ });
    t.throws(() => signUnpack({ ...w, shape: [4, 6] }), { message: /codes do not fit; got 5 of u8, expected 6/ });
    await synchronize();
  });
});
