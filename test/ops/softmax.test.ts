import test from 'ava';
import { type DType, InvalidArgumentError, ShapeError, type Tensor } from 'lorikeet';
import { concat, logSoftmax, logSumExp, narrow, permute, softmax, tensor } from 'lorikeet/ops';
import { battery } from '../helpers/battery.js';
import {
  atEveryLevel,
  checkGradients,
  near,
  numbers,
  random,
  roundoff,
  sameBits,
  withoutLeaks,
  withThreads,
  worstOf,
} from '../helpers/products.js';
import { cases } from './softmax.cases.js';

battery(test, cases);

const dtypes: DType[] = ['f64', 'f32', 'bf16', 'f16'];
const make = (values: Float64Array, shape: readonly number[]): Tensor => tensor(values, { shape, dtype: 'f64' });

/** Rows of x [outer, n, inner] along the middle, in double: e^(x - lse), x - lse and lse. */
function reference(x: ArrayLike<number>, outer: number, n: number, inner: number) {
  const lse = new Float64Array(outer * inner);
  const log = new Float64Array(x.length);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const place = (j: number): number => (o * n + j) * inner + i;
      const row = Array.from({ length: n }, (_, j) => x[place(j)] ?? 0);
      const most = Math.max(...row);
      const sum = most + Math.log(row.reduce((total, value) => total + Math.exp(value - most), 0));
      lse[o * inner + i] = sum;
      for (const [j, value] of row.entries()) log[place(j)] = value - sum;
    }
  }
  return { softmax: log.map(Math.exp), log, lse };
}

test('any dimension and odd sizes at every level and dtype', (t) => {
  // f32: a few roundings of values up to 10 in size; the 16-bit types add the rounding of the output.
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of dtypes) {
        const error = (dtype === 'f64' ? 2e-15 : 2e-6) + (roundoff[dtype] ?? 0);
        for (const [shape, dim, outer, n, inner] of [
          [[3, 1], -1, 3, 1, 1],
          [[2, 5], 1, 2, 5, 1],
          [[7, 129], -1, 7, 129, 1],
          [[2, 33, 3], 1, 2, 33, 3],
          [[17, 2, 5], 0, 1, 17, 10],
          [[1000], 0, 1, 1000, 1],
        ] as const) {
          const x = random(shape, dtype, 2);
          const expected = reference(numbers(x), outer, n, inner);
          const what = `${level} ${dtype} [${shape}] ${dim}`;
          t.true(
            worstOf(
              numbers(softmax(x, dim)),
              expected.softmax,
              (i) => error * (expected.softmax[i] ?? 0) * 4 + (dtype === 'f16' ? 2 ** -25 : 0),
            ) <= 1,
            what,
          );
          near(t, numbers(logSoftmax(x, dim)), expected.log, error, what);
          near(t, numbers(logSumExp(x, dim)), expected.lse, error, what);
          t.deepEqual(
            logSumExp(x, dim, { keepDim: true }).shape,
            shape.map((size, i) => (i === (dim + shape.length) % shape.length ? 1 : size)),
          );
        }
      }
    }),
  );
});

test('views, empty rows and infinities', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      const x = random([4, 6, 5]);
      const view = narrow(permute(x, [2, 0, 1]), 2, 1, 4);
      const copy = tensor(Float32Array.from(numbers(view)), { shape: view.shape });
      for (const dim of [0, 1, 2]) t.true(sameBits(softmax(view, dim), softmax(copy, dim)), `${level} ${dim}`);
      t.deepEqual(softmax(random([0, 3])).shape, [0, 3]);
      t.deepEqual(softmax(random([3, 0])).shape, [3, 0]);
      t.deepEqual(Array.from(numbers(logSumExp(random([2, 0])))), [-Infinity, -Infinity]);
      const inf = Infinity;
      const odd = tensor([
        [0, -inf, 0],
        [-inf, -inf, -inf],
        [1, inf, 2],
        [1, Number.NaN, inf],
      ]);
      t.deepEqual(Array.from(numbers(softmax(odd))).slice(0, 3), [0.5, 0, 0.5]);
      t.true(numbers(softmax(odd)).subarray(3, 6).every(Number.isNaN));
      const lse = numbers(logSumExp(odd));
      t.true(Math.abs((lse[0] ?? 0) - Math.LN2) < 1e-7);
      t.deepEqual(Array.from(lse.subarray(1)), [-inf, inf, Number.NaN]);
    }),
  );
});

test('gradients against central differences in f64', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dim of [0, 1, 2]) {
        for (const [name, f] of Object.entries({ softmax, logSoftmax, logSumExp })) {
          checkGradients(t, { x: random([3, 4, 5], 'f64') }, ({ x }) => f(x as Tensor, dim), make, `${level} ${name} ${dim}`);
        }
      }
    }),
  );
});

test('gradients in f32, bf16 and f16 follow those in f64', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of ['f32', 'bf16', 'f16'] as const) {
        for (const [name, f] of Object.entries({ softmax, logSoftmax, logSumExp })) {
          const x = random([5, 37], dtype).setRequiresGrad(true);
          const x64 = make(numbers(x), x.shape).setRequiresGrad(true);
          const y = f(x);
          const weight = random(y.shape, dtype);
          y.backward(weight);
          f(x64).backward(make(numbers(weight), y.shape));
          // The saved output is rounded; the sums over 37 products of it may lose a few units.
          near(t, numbers(x.grad as Tensor), numbers(x64.grad as Tensor), 8 * (roundoff[dtype] ?? 0) + 1e-6, `${level} ${dtype} ${name}`);
        }
      }
    }),
  );
});

test('a row has the same bits alone, in any batch, and with any number of threads', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const f of [softmax, logSoftmax, logSumExp]) {
        const x = random([67, 1001]);
        const y = withThreads(1, () => f(x));
        t.true(
          sameBits(
            y,
            withThreads(3, () => f(x)),
          ),
          level,
        );
        t.true(sameBits(y, concat([f(narrow(x, 0, 0, 1)), f(narrow(x, 0, 1, 7)), f(narrow(x, 0, 8, 59))], 0)), level);
      }
    }),
  );
});

test('wrong operands are errors', (t) => {
  t.throws(() => softmax(tensor(BigInt64Array.of(1n))), {
    instanceOf: InvalidArgumentError,
    message: 'softmax: needs a floating tensor; got i64, cast it first',
  });
  t.throws(() => logSoftmax(random([])), { instanceOf: ShapeError, message: 'logSoftmax: needs at least one dimension; got a scalar' });
  t.throws(() => logSumExp(random([2, 3]), 2), { message: /^logSumExp: .*2/ });
});
