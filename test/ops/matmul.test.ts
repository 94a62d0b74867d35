import test from 'ava';
import { type DType, InvalidArgumentError, ShapeError, type Tensor } from 'lorikeet';
import { expand, matmul, narrow, permute, reshape, tensor, transpose } from 'lorikeet/ops';
import {
  atEveryLevel,
  checkGradients,
  near,
  numbers,
  productReference,
  random,
  roundoff,
  sameBits,
  withoutLeaks,
  withThreads,
  worstOf,
} from '../helpers/products.js';

const dtypes: DType[] = ['f64', 'f32', 'bf16', 'f16'];
const make = (values: Float64Array, shape: readonly number[]): Tensor => tensor(values, { shape, dtype: 'f64' });

test('products of odd sizes at every level and dtype', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of dtypes) {
        for (const m of [0, 1, 2, 15, 16, 17, 31, 33]) {
          for (const [n, k] of [
            [5, 3],
            [33, 31],
            [100, 50],
            [65, 129],
            [1, 1],
            [7, 0],
          ] as const) {
            const a = random([m, k], dtype);
            const b = random([k, n], dtype);
            const y = matmul(a, b);
            t.deepEqual(y.shape, [m, n]);
            t.is(y.dtype, dtype);
            const { values, magnitudes } = productReference(numbers(a), numbers(transpose(b)), m, n, k);
            const unit = dtype === 'f64' ? 2 ** -53 : 2 ** -24;
            const worst = worstOf(
              numbers(y),
              values,
              (i) => 1e-300 + (k + 4) * unit * (magnitudes[i] ?? 0) + (roundoff[dtype] ?? 0) * Math.abs(values[i] ?? 0),
            );
            t.true(worst <= 1, `${level} ${dtype} ${m}x${n}x${k}: ${worst}`);
          }
        }
      }
    }),
  );
});

test('views, broadcast batches and shared matrices', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      const a = random([2, 1, 5, 7]);
      const b = random([3, 7, 4]);
      const y = matmul(a, b);
      t.deepEqual(y.shape, [2, 3, 5, 4]);
      for (let i = 0; i < 2; i++) {
        for (let j = 0; j < 3; j++) {
          const part = matmul(reshape(narrow(a, 0, i, 1), [5, 7]), reshape(narrow(b, 0, j, 1), [7, 4]));
          t.true(sameBits(reshape(narrow(narrow(y, 0, i, 1), 1, j, 1), [5, 4]), part), `${level} batch ${i} ${j}`);
        }
      }
      // Transposed and strided operands give the bits of their copies.
      const wide = random([9, 20]);
      const tall = random([30, 9]);
      const copy = (x: Tensor): Tensor => tensor(numbers(x), { shape: x.shape, dtype: 'f32' });
      const views: [Tensor, Tensor][] = [
        [transpose(wide, 0, 1), transpose(tall, 0, 1)],
        [narrow(tall, 1, 2, 5), narrow(wide, 0, 1, 5)],
        [expand(random([1, 9]), [6, 9]), wide],
        [permute(random([4, 6, 9]), [1, 0, 2]), wide],
        [permute(random([9, 4, 6]), [2, 1, 0]), wide],
        [random([2, 3, 9]), expand(reshape(wide, [1, 9, 20]), [2, 9, 20])],
      ];
      for (const [left, right] of views) t.true(sameBits(matmul(left, right), matmul(copy(left), copy(right))), level);
    }),
  );
});

test('gradients against central differences in f64', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      checkGradients(
        t,
        { a: random([3, 5], 'f64'), b: random([5, 4], 'f64') },
        ({ a, b }) => matmul(a as Tensor, b as Tensor),
        make,
        `${level} plain`,
      );
      checkGradients(
        t,
        { a: random([2, 3, 5], 'f64'), b: random([5, 4], 'f64') },
        ({ a, b }) => matmul(a as Tensor, b as Tensor),
        make,
        `${level} shared b`,
      );
      checkGradients(
        t,
        { a: random([2, 1, 3, 5], 'f64'), b: random([3, 5, 2], 'f64') },
        ({ a, b }) => matmul(a as Tensor, b as Tensor),
        make,
        `${level} broadcast`,
      );
      checkGradients(
        t,
        { a: random([5, 2, 3], 'f64'), b: random([4, 5], 'f64') },
        ({ a, b }) => matmul(permute(a as Tensor, [1, 2, 0]), transpose(b as Tensor, 0, 1)),
        make,
        `${level} views`,
      );
    }),
  );
});

test('gradients in f32, bf16 and f16 follow those in f64', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of ['f32', 'bf16', 'f16'] as const) {
        const a = random([2, 17, 40], dtype).setRequiresGrad(true);
        const b = random([40, 33], dtype).setRequiresGrad(true);
        const weight = random([2, 17, 33], dtype);
        matmul(a, b).backward(weight);
        const a64 = make(numbers(a), a.shape).setRequiresGrad(true);
        const b64 = make(numbers(b), b.shape).setRequiresGrad(true);
        matmul(a64, b64).backward(make(numbers(weight), weight.shape));
        const relative = 4 * (roundoff[dtype] ?? 0) + 1e-6;
        near(t, numbers(a.grad as Tensor), numbers(a64.grad as Tensor), relative, `${level} ${dtype} a`);
        near(t, numbers(b.grad as Tensor), numbers(b64.grad as Tensor), relative, `${level} ${dtype} b`);
      }
    }),
  );
});

test('a row has the same bits alone, in any batch, and with any number of threads', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of dtypes) {
        const a = random([67, 300], dtype);
        const b = random([300, 130], dtype);
        const y = withThreads(1, () => matmul(a, b));
        t.true(
          sameBits(
            y,
            withThreads(2, () => matmul(a, b)),
          ),
          `${level} ${dtype} threads`,
        );
        for (const row of [0, 5, 12, 66])
          t.true(sameBits(narrow(y, 0, row, 1), matmul(narrow(a, 0, row, 1), b)), `${level} ${dtype} row ${row}`);
        t.true(sameBits(narrow(y, 0, 30, 7), matmul(narrow(a, 0, 30, 7), b)), `${level} ${dtype} seven rows`);
      }
    }),
  );
});

test('wrong operands are errors that say what fits', (t) => {
  withoutLeaks(t, () => {
    t.throws(() => matmul(random([4, 8]), random([9, 16])), {
      instanceOf: ShapeError,
      message: 'matmul: inner sizes differ; got a [4, 8] and b [9, 16]',
    });
    t.throws(() => matmul(random([8]), random([8, 2])), {
      instanceOf: ShapeError,
      message: /^matmul: operands need at least two dimensions; got a \[8\] and b \[8, 2\]/,
    });
    t.throws(() => matmul(random([2, 8], 'f32'), random([8, 2], 'bf16')), {
      instanceOf: InvalidArgumentError,
      message: 'matmul: dtypes do not fit; got a f32 and b bf16, expected one floating dtype',
    });
    t.throws(() => matmul(random([2, 3, 8]), random([3, 8, 2])), { instanceOf: ShapeError, message: /^matmul: .*broadcast/ });
  });
});
