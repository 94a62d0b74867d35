import test from 'ava';
import { type DType, InvalidArgumentError, memory, ShapeError, scope, synchronize, type Tensor } from 'lorikeet';
import {
  add,
  arange,
  contiguous,
  expand,
  linear,
  matmul,
  narrow,
  ones,
  packInt8,
  packWeight,
  permute,
  reshape,
  sum,
  tensor,
  transpose,
} from 'lorikeet/ops';
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
import { settledBytes } from '../helpers/settled-bytes.js';

const make = (values: Float64Array, shape: readonly number[]): Tensor => tensor(values, { shape, dtype: 'f64' });
const combinations: [DType, DType][] = [
  ['f64', 'f64'],
  ['f32', 'f32'],
  ['f32', 'bf16'],
  ['f32', 'f16'],
  ['bf16', 'bf16'],
  ['bf16', 'f32'],
  ['f16', 'f16'],
  ['f16', 'bf16'],
];

test('a weight without outputs gives rows without elements', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const rows of [1, 5, 40]) {
        for (const pack of [packWeight, packInt8, (x: Tensor) => packWeight(x, { layout: 'native' })]) {
          using weight = pack(random([0, 70]));
          const x = random([rows, 70]).setRequiresGrad(true);
          const y = linear(x, weight);
          t.deepEqual(y.shape, [rows, 0]);
          sum(y).backward();
          t.true(
            numbers(x.grad as Tensor).every((value) => value === 0),
            `${level}, ${rows} rows`,
          );
        }
      }
    }),
  );
});

test('unpacking gives the weight back exactly', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of ['f64', 'f32', 'bf16', 'f16'] as const) {
        const whole = random([70, 90], dtype);
        for (const weight of [
          whole,
          transpose(whole),
          narrow(narrow(whole, 0, 3, 37), 1, 5, 31),
          narrow(whole, 0, 0, 0),
          narrow(whole, 1, 0, 1),
        ]) {
          using packed = packWeight(weight);
          t.deepEqual(packed.shape, weight.shape);
          t.is(packed.dtype, dtype);
          t.is(packed.level, level);
          t.true(sameBits(packed.unpack(), weight), `${level} ${dtype}`);
        }
      }
    }),
  );
});

test('values and dx at every level, for every pair of dtypes', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const [dtype, weightDtype] of combinations) {
        for (const m of [0, 1, 2, 15, 16, 17, 31, 33]) {
          for (const [n, k] of [
            [5, 3],
            [47, 17],
            [65, 129],
          ] as const) {
            const x = random([m, k], dtype).setRequiresGrad(true);
            const weight = random([n, k], weightDtype);
            const bias = random([n], dtype);
            using packed = packWeight(weight);
            const y = linear(x, packed, bias);
            const dy = random([m, n], dtype);
            y.backward(dy);
            const unit = dtype === 'f64' ? 2 ** -53 : 2 ** -24;
            const check = (
              got: Tensor,
              { values, magnitudes }: ReturnType<typeof productReference>,
              length: number,
              what: string,
            ): void => {
              const worst = worstOf(
                numbers(got),
                values,
                (i) => 1e-300 + (length + 4) * unit * ((magnitudes[i] ?? 0) + 4) + (roundoff[dtype] ?? 0) * Math.abs(values[i] ?? 0),
              );
              t.true(worst <= 1, `${level} ${dtype} ${weightDtype} ${m}x${n}x${k} ${what}: ${worst}`);
            };
            const forward = productReference(numbers(x), numbers(weight), m, n, k);
            const biases = numbers(bias);
            forward.values.forEach((_, i, all) => {
              all[i] = (all[i] ?? 0) + (biases[i % n] ?? 0);
            });
            check(y, forward, k, 'y');
            check(x.grad as Tensor, productReference(numbers(dy), numbers(transpose(weight)), m, k, n), n, 'dx');
          }
        }
      }
    }),
  );
});

test('leading dimensions and views of x', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      using packed = packWeight(random([19, 24]));
      const x = random([2, 3, 24]);
      t.deepEqual(linear(x, packed).shape, [2, 3, 19]);
      t.deepEqual(linear(reshape(narrow(narrow(x, 0, 0, 1), 1, 0, 1), [24]), packed).shape, [19]);
      const turned = permute(random([24, 3, 2]), [2, 1, 0]);
      t.true(sameBits(linear(turned, packed), linear(tensor(numbers(turned), { shape: [2, 3, 24], dtype: 'f32' }), packed)), level);
    }),
  );
});

test('gradients against central differences in f64, packed and dense', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      using packed = packWeight(random([6, 5], 'f64'));
      checkGradients(
        t,
        { x: random([2, 3, 5], 'f64'), bias: random([6], 'f64') },
        ({ x, bias }) => linear(x as Tensor, packed, bias),
        make,
        `${level} packed`,
      );
      checkGradients(
        t,
        { x: random([2, 3, 5], 'f64'), weight: random([6, 5], 'f64'), bias: random([6], 'f64') },
        ({ x, weight, bias }) => linear(x as Tensor, weight as Tensor, bias),
        make,
        `${level} dense`,
      );
    }),
  );
});

test('a broadcast gradient of y is read as it is', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      const packed = packWeight(random([9, 20]));
      const run = (gradient: (y: Tensor) => Tensor): Tensor => {
        const x = tensor(values, { shape: [5, 20], dtype: 'f32' }).setRequiresGrad(true);
        const y = linear(x, packed);
        y.backward(gradient(y));
        return x.grad as Tensor;
      };
      const values = numbers(random([5, 20]));
      const row = random([1, 9]);
      t.true(
        sameBits(
          run((y) => expand(row, y.shape)),
          run((y) => contiguous(expand(row, y.shape))),
        ),
        level,
      );
      t.true(
        sameBits(
          run((y) => expand(ones([1, 1]), y.shape)),
          run((y) => ones(y.shape)),
        ),
        level,
      );
      packed.dispose();
    }),
  );
});

test('gradients of a dense weight in f32 and bf16 follow those in f64', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const [dtype, weightDtype] of [
        ['f32', 'f32'],
        ['bf16', 'f32'],
        ['bf16', 'bf16'],
      ] as const) {
        const leaves = [random([35, 24], dtype), random([21, 24], weightDtype), random([21], weightDtype)].map((x) =>
          x.setRequiresGrad(true),
        );
        const wide = leaves.map((x) => make(numbers(x), x.shape).setRequiresGrad(true));
        const dy = random([35, 21], dtype);
        linear(leaves[0] as Tensor, leaves[1] as Tensor, leaves[2]).backward(dy);
        linear(wide[0] as Tensor, wide[1] as Tensor, wide[2]).backward(make(numbers(dy), dy.shape));
        leaves.forEach((leaf, i) => {
          near(
            t,
            numbers(leaf.grad as Tensor),
            numbers(wide[i]?.grad as Tensor),
            4 * (roundoff[dtype] ?? 0) + 1e-6,
            `${level} ${dtype} input ${i}`,
          );
        });
      }
    }),
  );
});

test('rows and their gradients have the same bits in any batch and with any number of threads', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const [dtype, weightDtype] of combinations) {
        using packed = packWeight(random([130, 200], weightDtype));
        const values = random([67, 200], dtype);
        const dy = random([67, 130], dtype);
        const run = (from: number, count: number, threads = 2): [Tensor, Tensor] =>
          withThreads(threads, () => {
            const x = tensor(numbers(narrow(values, 0, from, count)), { shape: [count, 200], dtype }).setRequiresGrad(true);
            const y = linear(x, packed);
            y.backward(narrow(dy, 0, from, count));
            return [y.detach(), x.grad as Tensor];
          });
        const whole = run(0, 67);
        const single = run(0, 67, 1);
        const parts = [
          [0, 1],
          [5, 1],
          [66, 1],
          [20, 7],
          [1, 66],
        ] as const;
        for (const i of [0, 1] as const) {
          t.true(sameBits(whole[i], single[i]), `${level} ${dtype} threads`);
          for (const [from, count] of parts)
            t.true(sameBits(narrow(whole[i], 0, from, count), run(from, count)[i]), `${level} ${dtype} rows ${from}+${count}`);
        }
      }
    }),
  );
});

test('the level of a weight stays its own', (t) => {
  withoutLeaks(t, () => {
    const weight = random([33, 40], 'bf16');
    const x = random([5, 40], 'bf16');
    const packed: ReturnType<typeof packWeight>[] = [];
    const expected: Float64Array[] = [];
    atEveryLevel(t, () => {
      const own = packWeight(weight);
      packed.push(own);
      expected.push(numbers(linear(x, own)));
    });
    packed.forEach((own, i) => {
      t.deepEqual(numbers(linear(x, own)), expected[i]);
      own.dispose();
    });
  });
});

test.serial('a frozen linear keeps nothing for backward', async (t) => {
  using packed = packWeight(random([8, 4096]));
  const kept = async (run: (x: Tensor) => Tensor): Promise<number> => {
    const x = random([256, 4096]).setRequiresGrad(true);
    // A result of an op: nobody but the tape could hold its memory.
    const hidden = add(x, 1);
    const y = run(hidden);
    const before = await settledBytes();
    hidden.dispose();
    // Work that the engine runs after the disposal, so that memory given back by then is counted.
    await synchronize();
    const freed = before - memory().bytes;
    y.dispose();
    x.dispose();
    return freed;
  };
  const bytes = 256 * 4096 * 4;
  t.true((await kept((x) => linear(x, packed))) >= bytes, 'the input of a frozen layer goes with its handle');
  const dense = random([8, 4096]).setRequiresGrad(true);
  t.is(await kept((x) => linear(x, dense)), 0, 'the input of a trainable layer is kept');
  dense.dispose();
});

test('wrong arguments are errors that say what fits', (t) => {
  withoutLeaks(t, () =>
    scope(() => {
      using packed = packWeight(random([6, 5]));
      t.throws(() => linear(random([2, 4]), packed), {
        instanceOf: ShapeError,
        message: 'linear: x and weight do not fit; got x [2, 4] and weight [6, 5], expected x [.., 5]',
      });
      t.throws(() => linear(random([2, 5]), packed, random([5])), {
        instanceOf: ShapeError,
        message: 'linear: bias does not fit; got [5], expected [6]',
      });
      t.throws(() => linear(random([2, 5], 'f64'), packed), {
        instanceOf: InvalidArgumentError,
        message: 'linear: dtypes do not fit; got x f64 and weight f32, expected both or neither in f64',
      });
      t.throws(() => packWeight(random([6])), {
        instanceOf: ShapeError,
        message: 'packWeight: a weight has two dimensions [outputs, inputs]; got [6]',
      });
      t.throws(() => packWeight(reshape(arange(6, { dtype: 'i32' }), [2, 3])), {
        instanceOf: InvalidArgumentError,
        message: 'packWeight: this dtype has no packed layout; got i32, expected f64, f32, bf16 or f16',
      });
      const gone = packWeight(random([6, 5]));
      gone.dispose();
      gone.dispose();
      t.true(gone.disposed);
      t.throws(() => linear(random([2, 5]), gone), { message: 'linear: this packed weight was disposed; pack it again' });
    }),
  );
});

test('disposing a weight does not break a pending backward', (t) => {
  withoutLeaks(t, () => {
    const weight = random([6, 5]);
    const packed = packWeight(weight);
    const x = random([2, 5]).setRequiresGrad(true);
    const y = linear(x, packed);
    packed.dispose();
    const dy = random([2, 6]);
    y.backward(dy);
    near(t, numbers(x.grad as Tensor), numbers(matmul(dy, weight)), 1e-6, 'dx');
  });
});
