import test from 'ava';
import type { DType, Tensor } from 'lorikeet';
import { attention, cacheWrite, concat, narrow, tensor, zeros } from 'lorikeet/ops';
import { atEveryLevel, numbers, random, sameBits, withoutLeaks } from '../helpers/products.js';

// Decoding one token at a time over a cache gives the bits of computing all tokens at once, whatever lies in the cache beyond.

const dtypes: DType[] = ['f64', 'f32', 'bf16', 'f16'];
const at = (x: Tensor, start: number, length = 1): Tensor => narrow(x, 1, start, length);

// Widths and heads in a group for which a few queries or narrow heads have kernels of their own, and others.
const shapes = [
  { window: 40, H: 2, K: 8 },
  { window: 0, H: 3, K: 20 },
  { window: 40, H: 3, K: 20 },
  { window: 0, H: 1, K: 32 },
  { window: 40, H: 3, K: 64 },
  { window: 0, H: 7, K: 96 },
];
for (const { window, H, K } of shapes) {
  test(`decode, chunks and prefill agree bit for bit, window ${window}, ${H} heads of ${K}`, (t) => {
    withoutLeaks(t, () =>
      atEveryLevel(t, (level) => {
        for (const dtype of dtypes) {
          const [B, T, G] = [2, 140, 1];
          const q = random([B, T, H, K], dtype);
          const k = random([B, T, G, K], dtype);
          const v = random([B, T, G, K], dtype);
          const whole = attention(q, k, v, { causal: true, window });
          const keys = zeros([B, 200, G, K], { dtype });
          const values = zeros([B, 200, G, K], { dtype });
          let position = 0;
          for (const length of [1, 1, 61, 1, 1, 5, 64, 1, 1, 4]) {
            cacheWrite(keys, at(k, position, length), position);
            cacheWrite(values, at(v, position, length), [position, position]);
            const inPlace = attention(at(q, position, length), keys, values, { causal: true, window, queryOffset: position });
            const end = position + length;
            const narrowed = attention(at(q, position, length), at(keys, 0, end), at(values, 0, end), { causal: true, window });
            t.true(sameBits(inPlace, at(whole, position, length)), `${level} ${dtype} at ${position}`);
            t.true(sameBits(narrowed, inPlace), `${level} ${dtype} narrowed at ${position}`);
            position = end;
          }
          t.is(position, T);
        }
      }),
    );
  });
}

test('rows of different lengths decode together as they do alone', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of dtypes) {
        const starts = [0, 63, 64, 100, 7, 1, 129];
        const q = random([7, 1, 4, 32], dtype);
        const k = random([7, 130, 2, 32], dtype);
        const v = random([7, 130, 2, 32], dtype);
        const y = attention(q, k, v, { causal: true, queryOffset: starts });
        const lengths = attention(q, k, v, { keyLengths: starts.map((start) => start + 1) });
        t.true(sameBits(y, lengths), `${level} ${dtype} lengths`);
        const rows = starts.map((start, b) => {
          const row = (x: Tensor): Tensor => narrow(x, 0, b, 1);
          return attention(row(q), at(row(k), 0, start + 1), at(row(v), 0, start + 1), { causal: true });
        });
        t.true(sameBits(y, concat(rows, 0)), `${level} ${dtype} alone`);
      }
    }),
  );
});

test('packed documents have the bits of separate sequences where they start on a block, and their values anywhere', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      const lengths = [64, 128, 30, 40];
      const total = lengths.reduce((sum, length) => sum + length, 0);
      const q = random([1, total, 2, 12]);
      const k = random([1, total, 1, 12]);
      const documents = tensor(Int32Array.from(lengths.flatMap((length, i) => new Array<number>(length).fill(i))), { shape: [1, total] });
      const y = attention(q, k, k, { causal: true, documents });
      let start = 0;
      for (const [i, length] of lengths.entries()) {
        const alone = attention(at(q, start, length), at(k, start, length), at(k, start, length), { causal: true });
        const part = at(y, start, length);
        if (i < 3) t.true(sameBits(part, alone), `${level} document ${i}`);
        const expected = numbers(alone);
        const worst = numbers(part).reduce((most, value, j) => Math.max(most, Math.abs(value - (expected[j] ?? 0))), 0);
        t.true(worst < 2e-6, `${level} document ${i}: ${worst}`);
        start += length;
      }
    }),
  );
});

test('few queries have the bits that they have among many, whatever hides keys', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of dtypes) {
        const [T, H, K] = [150, 2, 32];
        const q = random([1, T, H, K], dtype);
        const k = random([1, T, 1, K], dtype);
        const v = random([1, T, 1, K], dtype);
        const seen = (s: number): boolean => s % 3 !== 0 && (s < 64 || s > 131);
        const keyMask = tensor(
          Uint8Array.from({ length: T }, (_, s) => Number(seen(s))),
          { shape: [1, T], dtype: 'bool' },
        );
        for (const options of [{ keyMask }, { softcap: 2 }, { scale: -0.5 }, { keyMask, softcap: 5, window: 70 }]) {
          const many = attention(q, k, v, { ...options, causal: true });
          for (const at of [0, 1, 64, 130, 149]) {
            const few = attention(narrow(q, 1, at, 1), k, v, { ...options, causal: true, queryOffset: at });
            t.true(sameBits(few, narrow(many, 1, at, 1)), `${level} ${dtype} ${Object.keys(options)} at ${at}`);
          }
        }
      }
    }),
  );
});
