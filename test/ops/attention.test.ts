import test from 'ava';
import { type DType, InvalidArgumentError, ShapeError, type Tensor } from 'lorikeet';
import { attention, cacheWrite, narrow, permute, tensor, zeros } from 'lorikeet/ops';
import { attentionReference, type ReferenceOptions } from '../helpers/attention-reference.js';
import { battery } from '../helpers/battery.js';
import { denseOf } from '../helpers/op-case.js';
import { atEveryLevel, near, numbers, random, sameBits, withoutLeaks } from '../helpers/products.js';
import { cases } from './attention.cases.js';

battery(test, cases);

// Results against the formula in double. f32 sums over up to 200 keys of unit-variance values stay within 2e-6 of the largest output; the 16-bit types
// add the rounding of the output (2^-9 and 2^-12 relative), and their inputs are exact.
const tolerance: Record<string, number> = { f64: 1e-14, f32: 2e-6, bf16: 2 ** -8, f16: 2 ** -11 };
const dtypes: DType[] = ['f64', 'f32', 'bf16', 'f16'];

const booleans = (values: readonly (boolean | number)[], shape: readonly number[]): Tensor =>
  tensor(Uint8Array.from(values, Number), { shape, dtype: 'bool' });

/** The options as attention() takes them. */
function native({ keyMask, documents, ...rest }: ReferenceOptions, batch: number) {
  return {
    ...rest,
    ...(keyMask && { keyMask: booleans(keyMask, [batch, keyMask.length / batch]) }),
    ...(documents && { documents: tensor(Int32Array.from(documents), { shape: [batch, documents.length / batch] }) }),
  };
}

// [B, T, S, H, G, K]
const sizes = [
  [2, 5, 5, 4, 2, 8],
  [1, 37, 150, 2, 1, 8],
  [1, 70, 200, 3, 1, 24],
  [2, 1, 130, 4, 2, 33],
  [1, 65, 65, 1, 1, 5],
  [1, 2, 3, 2, 1, 256],
  [1, 1, 1, 1, 1, 1],
] as const;

function optionsFor(batch: number, queries: number, keys: number): ReferenceOptions[] {
  const options: ReferenceOptions[] = [
    {},
    { causal: true },
    { causal: true, window: 20 },
    { window: 7, softcap: 2, scale: 0.7 },
    { keyLengths: batch === 2 ? [keys, 0] : [1] },
    { causal: true, queryOffset: batch === 2 ? [0, 3] : [1], keyLengths: new Array<number>(batch).fill(keys) },
    { keyMask: Array.from({ length: batch * keys }, (_, i) => i % 3 !== 1) },
  ];
  if (queries === keys)
    options.push({ causal: true, documents: Array.from({ length: batch * keys }, (_, i) => Math.floor((i % keys) / 3)) });
  return options;
}

test('odd sizes and every mask, at every level and dtype', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const [B, T, S, H, G, K] of sizes) {
        for (const dtype of dtypes) {
          const q = random([B, T, H, K], dtype);
          const k = random([B, S, G, K], dtype);
          const v = random([B, S, G, K], dtype);
          for (const options of optionsFor(B, T, S)) {
            const y = attention(q, k, v, native(options, B));
            t.deepEqual(y.shape, q.shape);
            t.is(y.dtype, dtype);
            near(
              t,
              numbers(y),
              attentionReference(denseOf(q), denseOf(k), denseOf(v), options),
              tolerance[dtype] ?? 0,
              `${level} ${dtype} ${[B, T, S, H, G, K]} ${JSON.stringify(options)}`,
            );
          }
        }
      }
    }),
  );
});

test('empty operands', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, () => {
      t.deepEqual(attention(random([0, 2, 2, 4]), random([0, 3, 1, 4]), random([0, 3, 1, 4])).shape, [0, 2, 2, 4]);
      t.deepEqual(attention(random([2, 0, 2, 4]), random([2, 3, 1, 4]), random([2, 3, 1, 4])).shape, [2, 0, 2, 4]);
      t.true(numbers(attention(random([2, 3, 2, 4]), random([2, 0, 1, 4]), random([2, 0, 1, 4]))).every((value) => value === 0));
      const q = random([1, 2, 1, 4]).setRequiresGrad(true);
      const k = random([1, 0, 1, 4]).setRequiresGrad(true);
      attention(q, k, k).backward(random([1, 2, 1, 4]));
      t.true(numbers(q.grad as Tensor).every((value) => value === 0));
      t.deepEqual(k.grad?.shape, [1, 0, 1, 4]);
    }),
  );
});

test('views are read in place with the bits of their copies', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of dtypes) {
        const q = random([2, 3, 9, 16], dtype); // [B, H, T, K]
        const k = random([2, 40, 2, 16], dtype);
        const view = permute(q, [0, 2, 1, 3]);
        const turned = permute(random([16, 3, 9, 2], dtype), [3, 2, 1, 0]);
        const part = narrow(k, 1, 5, 30);
        const copy = (x: Tensor): Tensor => tensor(numbers(x), { shape: x.shape, dtype });
        for (const left of [narrow(view, 2, 0, 2), narrow(turned, 2, 1, 2)]) {
          const y = attention(left, part, part, { causal: true });
          t.true(sameBits(y, attention(copy(left), copy(part), copy(part), { causal: true })), `${level} ${dtype}`);
        }
      }
    }),
  );
});

for (const width of [20, 8]) {
  test(`a row that sees no key is zero, and memory beyond a length is not read, width ${width}`, (t) => {
    withoutLeaks(t, () =>
      atEveryLevel(t, (level) => {
        const q = random([2, 3, 2, width]).setRequiresGrad(true);
        const kept = numbers(random([2, 100, 1, width]));
        const garbage = kept.map((value, i) => (i % (100 * width) >= 70 * width ? Number.NaN : value));
        const k = tensor(Float32Array.from(garbage), { shape: [2, 100, 1, width] }).setRequiresGrad(true);
        const clean = tensor(Float32Array.from(kept), { shape: [2, 100, 1, width] });
        const y = attention(q, k, k, { keyLengths: [70, 0] });
        t.true(sameBits(y, attention(q, clean, clean, { keyLengths: [70, 0] })), level);
        t.true(
          numbers(y)
            .subarray(6 * width)
            .every((value) => value === 0),
          level,
        );
        y.backward(random([2, 3, 2, width]));
        t.true(
          numbers(q.grad as Tensor)
            .subarray(6 * width)
            .every((value) => value === 0),
          level,
        );
        t.true(
          numbers(k.grad as Tensor).every((value, i) => (i < 70 * width ? Number.isFinite(value) : value === 0)),
          level,
        );
      }),
    );
  });
}

test('inputs that are not numbers show in the rows that see them', (t) => {
  withoutLeaks(t, () => {
    const k = tensor(
      Float32Array.from({ length: 12 }, (_, i) => (i === 4 ? Number.NaN : 1)),
      { shape: [1, 3, 1, 4] },
    );
    const y = numbers(attention(random([1, 3, 1, 4]), k, random([1, 3, 1, 4]), { causal: true }));
    t.deepEqual(Array.from(y, Number.isNaN), [false, false, false, false, true, true, true, true, true, true, true, true]);
  });
});

test('wrong operands are errors that say what fits', async (t) => {
  const q = random([2, 3, 4, 8]);
  const k = random([2, 5, 2, 8]);
  t.throws(() => attention(random([3, 4, 8]), k, k), {
    instanceOf: ShapeError,
    message: /^attention: operands must have four dimensions; got q \[3, 4, 8\]/,
  });
  t.throws(() => attention(q, random([2, 5, 2, 9]), random([2, 5, 2, 9])), {
    instanceOf: ShapeError,
    message: /^attention: shapes do not fit; got q \[2, 3, 4, 8\]/,
  });
  t.throws(() => attention(q, random([2, 5, 3, 8]), random([2, 5, 3, 8])), {
    instanceOf: ShapeError,
    message: 'attention: query heads must be a multiple of the key heads; got 4 and 3',
  });
  t.throws(() => attention(q, random([2, 5, 2, 8], 'bf16'), k), {
    instanceOf: InvalidArgumentError,
    message: 'attention: operands must have one floating dtype; got q f32, k bf16 and v f32',
  });
  t.throws(() => attention(q, k, k, { keyMask: booleans([true], [1, 1]) }), {
    message: 'attention: keyMask has the wrong shape; got [1, 1], expected [2, 5]',
  });
  t.throws(() => attention(q, k, k, { keyLengths: [1, 2, 3] }), {
    message: 'attention: keyLengths has the wrong shape; got [3], expected [2]',
  });
  t.throws(() => attention(q, k, k, { documents: zeros([2, 5], { dtype: 'i64' }) }), {
    message: /documents has the wrong dtype; got i64, expected i32/,
  });
  t.throws(() => attention(q, k, k, { documents: zeros([2, 5], { dtype: 'i32' }) }), {
    message: 'attention: documents need as many queries as keys; got 3 and 5',
  });
  t.throws(() => attention(q, k, k, { window: -1 }), { message: 'attention: the window must not be negative; got -1' });
  await t.throwsAsync(attention(q, k, k, { keyLengths: [5, 6] }).data(), {
    message: /attention: a key length is out of range; got 6 in row 1, expected 0 to 5/,
  });
});

test('what backward needs must not change in between', (t) => {
  const q = random([1, 2, 1, 4]).setRequiresGrad(true);
  const k = random([1, 2, 1, 4]);
  const y = attention(q, k, k);
  cacheWrite(k, random([1, 1, 1, 4]), 0);
  t.throws(() => y.backward(random([1, 2, 1, 4])), { message: /^attention: a tensor needed for backward was changed in place/ });
});
