import test from 'ava';
import { type DType, InvalidArgumentError, memory, ShapeError, synchronize, type Tensor } from 'lorikeet';
import { add, type LowRankFactors, linear, lowRankLinear, narrow, packWeight, type RowSegment, tensor, zeros } from 'lorikeet/ops';
import { copyFactors, copyOf, factors, lowRankReference, rowsOf } from '../helpers/low-rank.js';
import { atEveryLevel, checkGradients, near, numbers, random, sameBits, withoutLeaks, withThreads } from '../helpers/products.js';
import { settledBytes } from '../helpers/settled-bytes.js';

const make = (values: Float64Array, shape: readonly number[]): Tensor => tensor(values, { shape, dtype: 'f64' });

/** Error of y relative to its largest value, by the dtype of the activations: their rounding, and bf16 factors where the base runs in bf16. */
const tolerance: Record<string, number> = { f64: 1e-13, f32: 4e-6, f16: 2e-3, bf16: 1.6e-2 };

const segmentsOf = (m: number): RowSegment[] => [
  { start: 0, end: Math.floor(m / 3), adapters: [0] },
  { start: Math.floor(m / 3), end: Math.floor(m / 3) + 1, adapters: [2, 1] },
  { start: Math.floor(m / 3) + 2, end: m, adapters: [1, 0] },
];

test('one adapter of every rank at every level', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const [dtype, weightDtype, factorDtype] of [
        ['f64', 'f64', 'f64'],
        ['f32', 'f32', 'f32'],
        ['f32', 'bf16', 'f32'],
        ['bf16', 'bf16', 'f32'],
        ['f16', 'f16', 'f16'],
      ] as const) {
        for (const rank of [1, 3, 8, 16, 33, 64]) {
          for (const [m, n, k] of [
            [1, 17, 9],
            [17, 65, 70],
          ] as const) {
            const x = random([m, k], dtype);
            const bias = random([n], dtype);
            using packed = packWeight(random([n, k], weightDtype));
            const adapter = factors(k, n, rank, factorDtype);
            const y = lowRankLinear(x, packed, { bias, adapters: [adapter] });
            const base = numbers(linear(copyOf(x, 'f64'), copyOf(packed.unpack(), 'f64'), copyOf(bias, 'f64')));
            const expected = lowRankReference(x, n, [adapter], [{ start: 0, end: m, adapters: [0] }]).map((v, i) => v + (base[i] ?? 0));
            t.is(y.dtype, dtype);
            near(t, numbers(y), expected, tolerance[dtype] ?? 0, `${level} ${dtype} on ${weightDtype}, rank ${rank}, ${m}x${n}x${k}`);
          }
        }
      }
    }),
  );
});

test('several adapters of different rank and scale on segments of rows', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of ['f64', 'f32', 'bf16'] as const) {
        for (const m of [3, 16, 31, 50]) {
          const [n, k] = [37, 45];
          const x = random([m, k], dtype);
          using packed = packWeight(random([n, k], dtype));
          const adapters = [8, 3, 17].map((rank, i) =>
            factors(k, n, rank, dtype === 'f64' ? 'f64' : 'f32', { bias: random([n], 'f32'), dropout: i * 0.3, seed: 5, stream: i }),
          );
          const segments = segmentsOf(m);
          const y = lowRankLinear(x, packed, { adapters, segments });
          const base = linear(x, packed);
          const plain = numbers(linear(copyOf(x, 'f64'), copyOf(packed.unpack(), 'f64')));
          const expected = lowRankReference(x, n, adapters, segments).map((v, i) => v + (plain[i] ?? 0));
          near(t, numbers(y), expected, tolerance[dtype] ?? 0, `${level} ${dtype} m=${m}`);
          const outside = Math.floor(m / 3) + 1;
          if (outside < m)
            t.true(sameBits(narrow(y, 0, outside, 1), narrow(base, 0, outside, 1)), `${level}: a row outside every segment is the base`);
        }
      }
    }),
  );
});

test('a segment may name its adapters in any order', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of ['f64', 'f32', 'bf16'] as const) {
        const x = random([29, 45], dtype);
        using packed = packWeight(random([37, 45], dtype));
        const adapters = [16, 16, 5].map((rank) => factors(45, 37, rank, dtype === 'f64' ? 'f64' : 'f32'));
        const turned = [...adapters].reverse();
        const y = lowRankLinear(x, packed, { adapters, segments: [{ start: 0, end: 29, adapters: [2, 1, 0] }] });
        const same = lowRankLinear(x, packed, { adapters: turned, segments: [{ start: 0, end: 29, adapters: [0, 1, 2] }] });
        t.true(sameBits(y, same), `${level} ${dtype}`);
      }
    }),
  );
});

test('an adapter with B = 0 leaves the bits of the base', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of ['f64', 'f32', 'bf16', 'f16'] as const) {
        const x = random([19, 33], dtype);
        using packed = packWeight(random([40, 33], dtype));
        const adapter = { a: random([8, 33]), b: zeros([40, 8]), scale: 2 };
        t.true(sameBits(lowRankLinear(x, packed, { adapters: [adapter] }), linear(x, packed)), `${level} ${dtype}`);
        t.true(sameBits(lowRankLinear(x, packed, { adapters: [] }), linear(x, packed)), `${level} ${dtype} no adapter`);
      }
    }),
  );
});

test('gradients against central differences in f64', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      const [m, n, k] = [7, 6, 5];
      using packed = packWeight(random([n, k], 'f64'));
      const inputs = {
        x: random([m, k], 'f64'),
        bias: random([n], 'f64'),
        weight: random([n, k], 'f64'),
        ...Object.fromEntries(
          [2, 1, 3].flatMap((rank, i) => {
            const { a, b } = factors(k, n, rank, 'f64');
            return [
              [`a${i}`, a],
              [`b${i}`, b],
              [`c${i}`, random([n], 'f64')],
            ];
          }),
        ),
      } as Record<string, Tensor>;
      const run = (values: Readonly<Record<string, Tensor>>, weight: Tensor | undefined, segments: RowSegment[] | undefined): Tensor =>
        lowRankLinear(values.x as Tensor, weight ?? packed, {
          bias: values.bias as Tensor,
          adapters: [0, 1, 2].map((i) => ({
            a: values[`a${i}`] as Tensor,
            b: values[`b${i}`] as Tensor,
            bias: values[`c${i}`] as Tensor,
            scale: 0.7 + i,
            dropout: i === 1 ? 0.4 : 0,
            seed: 3,
            stream: i,
          })),
          ...(segments && { segments }),
        });
      const { weight: _, ...withoutWeight } = inputs;
      checkGradients(t, withoutWeight, (values) => run(values, undefined, undefined), make, `${level} packed`);
      checkGradients(t, withoutWeight, (values) => run(values, undefined, segmentsOf(m)), make, `${level} packed, segments`);
      checkGradients(t, inputs, (values) => run(values, values.weight, segmentsOf(m)), make, `${level} dense, segments`);
    }),
  );
});

interface Gradients {
  y: Tensor;
  x: Tensor;
  factors: Tensor[];
}

/** Runs forward and backward on leaves of its own. */
function train(
  x: Tensor,
  dy: Tensor,
  weight: ReturnType<typeof packWeight>,
  adapters: readonly LowRankFactors[],
  segments: RowSegment[],
  dtype: DType,
  factorDtype: DType,
): Gradients {
  const leaf = copyOf(x, dtype).setRequiresGrad(true);
  const own = adapters.map((adapter) => copyFactors(adapter, factorDtype, true));
  const y = lowRankLinear(leaf, weight, { adapters: own, segments });
  y.backward(copyOf(dy, dtype));
  return {
    y: y.detach(),
    x: leaf.grad as Tensor,
    factors: own.flatMap(({ a, b, bias }) => [a, b, ...(bias ? [bias] : [])].map((p) => p.grad as Tensor)),
  };
}

test('gradients in f32 and bf16 follow those in f64', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of ['f32', 'bf16', 'f16'] as const) {
        const [m, n, k] = [40, 50, 60];
        const x = random([m, k], dtype);
        const dy = random([m, n], dtype);
        const weight = random([n, k], dtype);
        using packed = packWeight(weight);
        using wide = packWeight(copyOf(weight, 'f64'));
        const adapters = [16, 3, 33].map((rank, i) =>
          factors(k, n, rank, 'f32', { bias: random([n]), dropout: i * 0.2, seed: 9, stream: i }),
        );
        const got = train(x, dy, packed, adapters, segmentsOf(m), dtype, 'f32');
        const expected = train(x, dy, wide, adapters, segmentsOf(m), 'f64', 'f64');
        const relative = tolerance[dtype] ?? 0;
        near(t, numbers(got.x), numbers(expected.x), relative, `${level} ${dtype} dx`);
        got.factors.forEach((gradient, i) => {
          t.is(gradient.dtype, 'f32');
          near(t, numbers(gradient), numbers(expected.factors[i] as Tensor), relative, `${level} ${dtype} factor ${i}`);
        });
      }
    }),
  );
});

test('rows and adapter gradients have the bits of a run alone', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of ['f64', 'f32', 'bf16'] as const) {
        const [n, k] = [70, 90];
        const factorDtype = dtype === 'f64' ? 'f64' : 'f32';
        using packed = packWeight(random([n, k], dtype));
        const adapters = [8, 20].map((rank, i) =>
          factors(k, n, rank, factorDtype, { bias: random([n], factorDtype), dropout: i * 0.5, seed: 1, stream: i }),
        );
        const x = random([90, k], dtype);
        const dy = random([90, n], dtype);
        // Adapter 0 owns rows 13 to 53, in two segments; adapter 1 the rows around.
        const segments = [
          { start: 0, end: 13, adapters: [1] },
          { start: 13, end: 30, adapters: [0] },
          { start: 30, end: 53, adapters: [0] },
          { start: 60, end: 90, adapters: [1] },
        ];
        const together = withThreads(2, () => train(x, dy, packed, adapters, segments, dtype, factorDtype));
        const oneThread = withThreads(1, () => train(x, dy, packed, adapters, segments, dtype, factorDtype));
        t.true(sameBits(together.y, oneThread.y) && sameBits(together.x, oneThread.x), `${level} ${dtype}: threads`);
        together.factors.forEach((gradient, i) => {
          t.true(sameBits(gradient, oneThread.factors[i] as Tensor), `${level} ${dtype}: threads, factor ${i}`);
        });
        const alone = train(
          rowsOf(x, 13, 53),
          rowsOf(dy, 13, 53),
          packed,
          adapters.slice(0, 1),
          [{ start: 0, end: 40, adapters: [0] }],
          dtype,
          factorDtype,
        );
        t.true(sameBits(narrow(together.y, 0, 13, 40), alone.y), `${level} ${dtype}: y`);
        t.true(sameBits(narrow(together.x, 0, 13, 40), alone.x), `${level} ${dtype}: dx`);
        alone.factors.forEach((gradient, i) => {
          t.true(sameBits(gradient, together.factors[i] as Tensor), `${level} ${dtype}: factor ${i}`);
        });
      }
    }),
  );
});

test('only wanted gradients are made', (t) => {
  withoutLeaks(t, () => {
    using packed = packWeight(random([6, 5]));
    const x = random([4, 5]);
    const adapter = factors(5, 6, 2, 'f32');
    adapter.b.setRequiresGrad(true);
    const dy = random([4, 6]);
    lowRankLinear(x, packed, { adapters: [adapter] }).backward(dy);
    t.is(adapter.a.grad, undefined);
    t.is(x.grad, undefined);
    t.deepEqual(adapter.b.grad?.shape, [6, 2]);
  });
});

test.serial('x is kept only for the gradient of an A', async (t) => {
  const [m, k, n] = [256, 4096, 8];
  using packed = packWeight(random([n, k]));
  const freed = async (a: boolean, b: boolean): Promise<number> => {
    const adapter = factors(k, n, 4, 'f32');
    adapter.a.setRequiresGrad(a);
    adapter.b.setRequiresGrad(b);
    const x = random([m, k]).setRequiresGrad(true);
    const hidden = add(x, 1);
    const y = lowRankLinear(hidden, packed, { adapters: [adapter] });
    const before = await settledBytes();
    hidden.dispose();
    await synchronize();
    const bytes = before - memory().bytes;
    for (const owner of [y, x, adapter.a, adapter.b]) owner.dispose();
    return bytes;
  };
  t.is(await freed(true, true), 0);
  t.true((await freed(false, true)) >= m * k * 4);
  t.true((await freed(false, false)) >= m * k * 4);
});

test('wrong arguments are errors that say what fits', (t) => {
  withoutLeaks(t, () => {
    using packed = packWeight(random([6, 5]));
    const x = random([4, 5]);
    const adapter = factors(5, 6, 2, 'f32');
    const fails = (
      adapters: LowRankFactors[],
      segments: RowSegment[] | undefined,
      message: string | RegExp,
      instanceOf: typeof ShapeError | typeof InvalidArgumentError,
    ): void => {
      t.throws(() => lowRankLinear(x, packed, { adapters, ...(segments && { segments }) }), { message, instanceOf });
    };
    fails(
      [{ ...adapter, a: random([2, 4]) }],
      undefined,
      'lowRankLinear: A of adapter 0 does not fit; got [2, 4], expected [rank, 5]',
      ShapeError,
    );
    fails(
      [adapter, { ...adapter, b: random([6, 3]) }],
      undefined,
      'lowRankLinear: B of adapter 1 does not fit; got [6, 3], expected [6, 2]',
      ShapeError,
    );
    fails(
      [{ ...adapter, a: zeros([0, 5]), b: zeros([6, 0]) }],
      undefined,
      'lowRankLinear: rank of adapter 0 must be positive; got 0',
      ShapeError,
    );
    fails([{ ...adapter, bias: random([5]) }], undefined, /^lowRankLinear: bias of adapter 0 does not fit; /, ShapeError);
    fails([{ ...adapter, dropout: 1 }], undefined, 'lowRankLinear: dropout of adapter 0 must be in [0, 1); got 1', InvalidArgumentError);
    fails(
      [{ ...adapter, scale: Number.NaN }],
      undefined,
      /^lowRankLinear: scale of adapter 0 must be finite; got -?nan$/,
      InvalidArgumentError,
    );
    fails(
      [adapter],
      [{ start: 0, end: 5, adapters: [0] }],
      /^lowRankLinear: segment 0 must follow the one before and lie in the rows; got \[0, 5\)/,
      InvalidArgumentError,
    );
    fails(
      [adapter],
      [
        { start: 0, end: 2, adapters: [0] },
        { start: 1, end: 3, adapters: [0] },
      ],
      /^lowRankLinear: segment 1 must follow/,
      InvalidArgumentError,
    );
    fails(
      [adapter],
      [{ start: 0, end: 2, adapters: [1] }],
      'lowRankLinear: segment 0 names an unknown adapter; got 1, expected less than 1',
      InvalidArgumentError,
    );
    fails([adapter], [{ start: 0, end: 2, adapters: [0, 0] }], 'lowRankLinear: segment 0 names adapter 0 twice', InvalidArgumentError);
  });
});
