import test from 'ava';
import { type DType, InvalidArgumentError, ShapeError, type Tensor } from 'lorikeet';
import {
  cast,
  expandBlockMask,
  indexMask,
  maskCount,
  maskedGather,
  maskedScatter,
  maskedUpdate,
  maskIndices,
  normal,
  ones,
  sub,
  tensor,
  topKBlockMask,
  topKIndices,
  topKMask,
  zeros,
} from 'lorikeet/ops';
import { battery } from '../helpers/battery.js';
import { atLevel, machineLevels, withThreads } from '../helpers/engine.js';
import { generator, sameBits } from '../helpers/values.js';
import { cases } from './sparse.cases.js';

battery(test, cases);

const numbers = (x: Tensor): number[] => Array.from(x.dataSync() as ArrayLike<number | bigint>, Number);

/** The owned places of bitmasks, counted on from mask to mask. */
function placesOf(masks: readonly Tensor[], sizes: readonly number[]): number[] {
  let start = 0;
  return masks.flatMap((mask, i) => {
    const bytes = numbers(mask);
    const size = sizes[i] as number;
    const found = Array.from({ length: size }, (_, j) => j).filter((j) => ((bytes[j >> 3] as number) >> (j & 7)) & 1);
    start += size;
    return found.map((j) => start - size + j);
  });
}

/** Places by falling magnitude, from a full sort: of equal ones the first comes first. */
const byMagnitude = (values: readonly number[]): number[] =>
  values.map((_, i) => i).sort((a, b) => Math.abs(values[b] as number) - Math.abs(values[a] as number) || a - b);
const rising = (places: readonly number[]): number[] => [...places].sort((a, b) => a - b);
const same = (a: readonly number[], b: readonly number[]): boolean => sameBits(Float64Array.from(a), Float64Array.from(b));

const random = generator(7);
const smooth = (count: number): number[] => Array.from({ length: count }, () => Math.fround((random() - 0.5) * 10 ** (8 * random() - 4)));
const tied = (count: number): number[] => Array.from({ length: count }, () => Math.floor(random() * 7) - 3);

for (const dtype of ['f64', 'f32', 'bf16', 'f16'] as const satisfies DType[]) {
  test(`topKMask of ${dtype} is that of a full sort over all tensors, ties included, at every level`, (t) => {
    for (const make of [smooth, tied]) {
      const parts = [make(9_003), make(5), [], make(16_384), make(77)].map((values) => cast(tensor(values, { dtype: 'f64' }), dtype));
      const sizes = parts.map(({ size }) => size);
      const values = parts.flatMap((part) => numbers(cast(part, 'f64')));
      const order = byMagnitude(values);
      for (const k of [0, 1, 63, 5_000, values.length - 1, values.length]) {
        const expected = rising(order.slice(0, k));
        for (const level of machineLevels) {
          const masks = atLevel(level, () => {
            const found = topKMask(parts, k);
            found.at(-1)?.dataSync();
            return found;
          });
          t.true(same(placesOf(masks, sizes), expected), `${level} k ${k}`);
        }
      }
    }
  });
}

test('topKMask counts NaN as larger than everything and treats zeros of both signs as equal', (t) => {
  const x = tensor([0, Number.NEGATIVE_INFINITY, Number.NaN, -0, 3, -Number.NaN, -4]);
  const chosen = [1, 2, 3, 4, 5, 6].map((k) => numbers(topKIndices(x, k)));
  t.deepEqual(chosen, [[2], [2, 5], [1, 2, 5], [1, 2, 5, 6], [1, 2, 4, 5, 6], [0, 1, 2, 4, 5, 6]]);
});

test('the same bits for every thread count', (t) => {
  const x = normal([300_001], { seed: 3 });
  const run = (threads: number): number[] => withThreads(threads, () => numbers(topKMask(x, 30_000)));
  t.true(same(run(1), run(2)));
});

test('bitmask and index list say the same', (t) => {
  for (const level of machineLevels) {
    atLevel(level, () => {
      for (const [size, k] of [
        [100_003, 9_001],
        [64, 64],
        [65, 0],
        [7, 3],
      ] as const) {
        const bits = topKMask(normal([size], { seed: size }), k);
        t.deepEqual(numbers(maskCount(bits, size)), [k]);
        const indices = maskIndices(bits, size, k);
        t.true(same(numbers(indices), placesOf([bits], [size])));
        t.true(same(numbers(indexMask(indices, size)), numbers(bits)));
      }
    });
  }
});

test('what was gathered is put back where it was, at every level, in both forms', (t) => {
  const size = 40_001;
  const x = normal([size], { seed: 1 });
  const all = numbers(x);
  for (const level of machineLevels) {
    atLevel(level, () => {
      for (const k of [0, 1, 4_000, 39_000, size]) {
        const bits = topKMask(normal([size], { seed: 2 }), k);
        const indices = maskIndices(bits, size, k);
        const places = numbers(indices);
        const expected = new Array<number>(size).fill(0);
        for (const at of places) expected[at] = all[at] as number;
        for (const mask of [bits, indices]) {
          const values = maskedGather(x, mask, k);
          t.true(
            same(
              numbers(values),
              places.map((at) => all[at] as number),
            ),
          );
          const target = zeros([size]);
          maskedScatter(target, mask, values);
          t.true(same(numbers(target), expected));
        }
      }
    });
  }
});

test('blocks: the largest are chosen, gathered, put back, and spread over their elements', (t) => {
  for (const block of [4, 16]) {
    const [rows, columns] = [8 * block, 5 * block];
    const x = normal([rows, columns], { seed: block });
    const values = numbers(x);
    const weights = Array.from({ length: 40 }, (_, entry) => {
      let total = 0;
      for (let i = 0; i < block * block; i++)
        total += Math.abs(
          values[(Math.floor(entry / 5) * block + Math.floor(i / block)) * columns + (entry % 5) * block + (i % block)] as number,
        );
      return total;
    });
    const mask = topKBlockMask(x, 9, block);
    const chosen = rising(byMagnitude(weights).slice(0, 9));
    t.deepEqual(placesOf([mask], [40]), chosen);
    const owned = maskedGather(x, mask, 9, { block });
    t.deepEqual(owned.shape, [9, block, block]);
    const target = zeros([rows, columns]);
    maskedScatter(target, mask, owned, { block });
    const inside = (i: number): boolean =>
      chosen.includes(Math.floor(Math.floor(i / columns) / block) * 5 + Math.floor((i % columns) / block));
    t.deepEqual(
      numbers(target),
      values.map((value, i) => (inside(i) ? value : 0)),
    );
    const elements = expandBlockMask(mask, [rows, columns], block);
    t.deepEqual(placesOf([elements], [rows * columns]), values.map((_, i) => i).filter(inside));
    t.deepEqual(numbers(maskedGather(x, maskIndices(mask, 40, 9), 9, { block })), numbers(owned));
  }
});

test('maskedUpdate replaces or adds, in both forms of the mask, and leaves the rest its bits', (t) => {
  for (const dtype of ['f64', 'f32', 'bf16', 'f16'] as const) {
    const x = cast(tensor([-0, 1, Number.NaN, 2, 3, Number.NEGATIVE_INFINITY, 4, 5, -0, 6]), dtype);
    const before = numbers(x);
    const values = cast(tensor([10, -20, 0.5]), dtype);
    const indices = tensor([1, 4, 9], { dtype: 'i32' });
    const expected = (owned: readonly number[]): number[] => before.map((value, i) => owned[[1, 4, 9].indexOf(i)] ?? value);
    for (const mask of [indices, indexMask(indices, 10)]) {
      t.true(same(numbers(maskedUpdate(x, mask, values)), expected([10, -20, 0.5])));
      t.true(same(numbers(maskedUpdate(x, mask, values, { mode: 'add' })), expected([11, -17, 6.5])));
    }
    t.true(same(numbers(x), before));
    const none = maskedUpdate(x, zeros([0], { dtype: 'i32' }), zeros([0], { dtype }), { mode: 'add' });
    t.true(same(numbers(none), before));
  }
});

test('a sparse task vector added and taken off again gives the weight', (t) => {
  const [before, after] = [normal([32, 48], { dtype: 'f64', seed: 1 }), normal([32, 48], { dtype: 'f64', seed: 2 })];
  const difference = sub(after, before);
  const mask = topKMask(difference, 100);
  const tuned = maskedUpdate(before, mask, maskedGather(after, mask, 100));
  const added = maskedUpdate(before, mask, maskedGather(difference, mask, 100), { mode: 'add' });
  t.true(numbers(sub(tuned, added)).every((value) => Math.abs(value) < 1e-15));
  t.is(numbers(sub(added, before)).filter((value) => value !== 0).length, 100);
});

test('integers and bytes are gathered too', (t) => {
  for (const dtype of ['i64', 'i32', 'u8'] as const) {
    const x = tensor([5, 6, 7, 8], { dtype });
    t.deepEqual(numbers(maskedGather(x, tensor([1, 3], { dtype: 'i32' }), 2)), [6, 8]);
  }
});

test('errors', async (t) => {
  const x = ones([10]);
  const bits = topKMask(x, 4);
  t.throws(() => topKMask(x, 11), {
    instanceOf: InvalidArgumentError,
    message: /topKMask: k is outside the tensors; got k 11, expected 0 to 10/,
  });
  t.throws(() => topKMask([x, ones([2], { dtype: 'f64' })], 1), { message: /topKMask: f64 cannot be compared with other dtypes/ });
  t.throws(() => topKMask(tensor([1], { dtype: 'i64' }), 1), { message: /topKMask: needs floating tensors; got i64/ });
  t.throws(() => maskedGather(x, zeros([3], { dtype: 'u8' }), 4), {
    message: /maskedGather: the bitmask does not fit; got u8\[3\], expected u8\[2\]/,
  });
  t.throws(() => maskedGather(x, tensor([1, 2], { dtype: 'i32' }), 4), {
    message: /maskedGather: the index list does not fit; got i32\[2\]/,
  });
  t.throws(() => maskedGather(x, bits, 11), { message: /maskedGather: a mask cannot own 11 of 10 entries/ });
  t.throws(() => maskedGather(x, bits, 4, { block: 2 }), {
    instanceOf: ShapeError,
    message: /blocks of 2 x 2 need a matrix that they divide; got \[10\]/,
  });
  t.throws(() => topKBlockMask(ones([4, 6]), 1, 4), { instanceOf: ShapeError, message: /topKBlockMask: blocks of 4 x 4/ });
  t.throws(() => maskedScatter(x, bits, ones([4, 1])), {
    instanceOf: ShapeError,
    message: /values are one for each owned entry; got \[4, 1\]/,
  });
  t.throws(() => maskedScatter(x, bits, ones([4], { dtype: 'f64' })), { message: /values and tensor differ in dtype; got f64 and f32/ });
  for (const mode of ['add', 'replace'] as const) {
    const update = (mask: Tensor, values: Tensor, block = 1): Tensor => maskedUpdate(x, mask, values, { mode, block });
    t.throws(() => update(bits, ones([4, 1])), { instanceOf: ShapeError, message: /maskedUpdate: values are one for each owned entry/ });
    t.throws(() => update(bits, ones([4], { dtype: 'f64' })), {
      message: /maskedUpdate: values and tensor differ in dtype; got f64 and f32/,
    });
    t.throws(() => update(zeros([3], { dtype: 'u8' }), ones([4])), { message: /maskedUpdate: the bitmask does not fit; got u8\[3\]/ });
    t.throws(() => update(tensor([1], { dtype: 'i32' }), ones([4])), {
      message: /maskedUpdate: the index list does not fit; got i32\[1\]/,
    });
    t.throws(() => update(bits, ones([4]), 2), { instanceOf: ShapeError, message: /maskedUpdate: blocks of 2 x 2 need a matrix/ });
    await t.throwsAsync(update(bits, ones([5])).data(), {
      message: /^maskedUpdate: the mask owns another number of entries; got 4, expected 5/,
    });
  }
  t.throws(() => maskedUpdate(x, bits, ones([4]), { mode: 'multiply' as 'add' }), {
    instanceOf: InvalidArgumentError,
    message: /maskedUpdate: unknown mode; got "multiply", expected "replace" or "add"/,
  });
  t.throws(() => maskedUpdate(tensor([1], { dtype: 'i64' }), tensor([0], { dtype: 'i32' }), tensor([1], { dtype: 'i64' })), {
    message: /maskedUpdate: needs a floating tensor; got i64/,
  });
  await t.throwsAsync(maskedGather(x, bits, 5).data(), {
    message: /maskedGather: the mask owns another number of entries; got 4, expected 5/,
  });
  await t.throwsAsync(maskIndices(bits, 10, 3).data(), { message: /maskIndices: the mask owns another number/ });
  for (const wrong of [
    [3, 3],
    [4, 2],
    [-1, 2],
    [2, 10],
  ])
    await t.throwsAsync(maskedGather(x, tensor(wrong, { dtype: 'i32' }), 2).data(), { message: /out of order or outside the tensor/ });
  await t.throwsAsync(indexMask(tensor([2, 1], { dtype: 'i32' }), 10).data(), { message: /indexMask: the index list is out of order/ });
});

test('sizes whose product no integer holds are refused', (t) => {
  const [bits, empty] = [ones([1], { dtype: 'u8' }), zeros([0, 0])];
  t.throws(() => expandBlockMask(bits, [2 ** 32, 2 ** 32], 2 ** 32), { instanceOf: ShapeError, message: /too many elements/ });
  const message = /the block must be from 1 to 2147483647; got 4294967296/;
  for (const block of [2 ** 32, Number.MAX_SAFE_INTEGER]) {
    t.throws(() => maskedGather(empty, zeros([0], { dtype: 'u8' }), 0, { block }), { instanceOf: InvalidArgumentError });
    t.throws(() => maskedScatter(empty, zeros([0], { dtype: 'u8' }), zeros([0, 1, 1]), { block }), { instanceOf: InvalidArgumentError });
    t.throws(() => maskedUpdate(empty, zeros([0], { dtype: 'u8' }), zeros([0, 1, 1]), { block }), { instanceOf: InvalidArgumentError });
  }
  t.throws(() => maskedGather(empty, zeros([0], { dtype: 'u8' }), 0, { block: 2 ** 32 }), { message });
  t.deepEqual(maskedGather(empty, zeros([0], { dtype: 'u8' }), 0, { block: 2 ** 31 - 1 }).shape, [0, 2 ** 31 - 1, 2 ** 31 - 1]);
});
