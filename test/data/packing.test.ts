import test from 'ava';
import fc from 'fast-check';
import { bestFit, collate, LengthGroupedOrder, loadDataset, PackingPlan, packSequences, RowOrder, StepLoader } from 'lorikeet/data';
import { letters } from '../helpers/letters.js';

test('rows are packed by best fit, longest first, and keep their order', (t) => {
  // 6 opens a pack, 5 another; 4 fits the first exactly, 3 the second, the last 2 too; 1 opens a third.
  t.deepEqual(bestFit([0, 1, 2, 3, 4, 5], [4, 5, 3, 6, 2, 1], 10), [[0, 3], [1, 2, 4], [5]]);
  t.deepEqual(bestFit([0, 1, 2], [3, 0, 3], 3), [[0], [2]]);
});

test('every row is in one pack, no pack is over its size, and few packs are less than half full', (t) => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 64 }), { minLength: 1, maxLength: 200 }), (lengths) => {
      const packs = bestFit([...lengths.keys()], lengths, 64);
      t.deepEqual(
        packs.flat().sort((a, b) => a - b),
        [...lengths.keys()],
      );
      const fills = packs.map((pack) => pack.reduce((sum, row) => sum + (lengths[row] ?? 0), 0));
      return fills.every((fill) => fill <= 64) && fills.filter((fill) => fill <= 32).length <= 1;
    }),
    { numRuns: 50 },
  );
});

const size = 2500;
const lengths = Uint32Array.from({ length: size }, (_, row) => 5 + ((row * 7919) % 60));

test('an epoch of packs holds every row once, and any pack can be asked for first', (t) => {
  const options = { lengths, sequence: 128, seed: 3 };
  const plan = new PackingPlan(new RowOrder(size, 3), options);
  const seen: number[] = [];
  let packs = 0;
  while (seen.length < size) seen.push(...plan.at(packs++));
  t.is(seen.length, size);
  t.is(new Set(seen).size, size);
  const fresh = new PackingPlan(new RowOrder(size, 3), options);
  t.deepEqual(fresh.at(packs + 3), plan.at(packs + 3));
  t.deepEqual(fresh.at(2), plan.at(2));
  t.notDeepEqual(new PackingPlan(new RowOrder(size, 3), { ...options, seed: 4 }).step(1, 8), plan.step(1, 8));
  const { rows, packs: counted, rate } = plan.fill();
  t.deepEqual([rows, counted], [size, packs]);
  t.true(rate > 0.95 && rate <= 1, String(rate));
});

test('documents of a pack end where the next begins, and predict nothing across', async (t) => {
  const set = await loadDataset({ rows: ['abc', 'd', 'ef'] }, letters, { sequence: 8 });
  const pack = packSequences([set.at(0), set.at(1)]);
  t.is(pack.where, 'row 1 + row 2');
  t.deepEqual(collate([pack, set.at(2)]), {
    ids: [
      [1, 97, 98, 1],
      [1, 101],
    ],
    targets: [
      [97, 98, 99, 100],
      [101, 102],
    ],
    documents: [
      [0, 0, 0, 1],
      [0, 0],
    ],
    tokens: 9,
    targetCount: 6,
  });
  t.is(packSequences([set.at(2)]), set.at(2));
});

test('batches of similar length: every row once an epoch, any step first', (t) => {
  const options = { lengths, batch: 5, accumulate: 2, seed: 1 };
  const grouped = new LengthGroupedOrder(new RowOrder(size, 1), options);
  const steps = Array.from({ length: size / 10 }, (_, index) => grouped.step(index + 1));
  t.is(new Set(steps.flat()).size, size);
  const spread = (rows: readonly number[]) => {
    const own = rows.map((row) => lengths[row] ?? 0);
    return Math.max(...own) - Math.min(...own);
  };
  const worst = Math.max(...steps.flatMap((rows) => [spread(rows.slice(0, 5)), spread(rows.slice(5))]));
  t.true(worst <= 4, `${worst} of 59`);
  t.deepEqual(new LengthGroupedOrder(new RowOrder(size, 1), options).step(77), steps[76]);
  // Windows do not simply go from long to short.
  const first = steps.slice(0, 50).map((rows) => lengths[rows[0] ?? 0] ?? 0);
  t.notDeepEqual(
    first,
    [...first].sort((a, b) => b - a),
  );
});

test('a set smaller than a window still gives every row once an epoch', (t) => {
  const grouped = new LengthGroupedOrder(new RowOrder(6, 1), { lengths: [1, 2, 3, 4, 5, 6], batch: 2, accumulate: 1, seed: 1 });
  t.deepEqual([1, 2, 3].flatMap((step) => grouped.step(step)).sort(), [0, 1, 2, 3, 4, 5]);
});

test('a loader gives the sequences of any step', async (t) => {
  const set = await loadDataset({ rows: ['abc', 'd', 'ef', 'ghij'] }, letters, { sequence: 8 });
  const options = { batch: 2, accumulate: 1, sequence: 8, shuffle: false, seed: 1, packing: false, lengthGrouped: false };
  const plain = await StepLoader.open(set, options);
  t.deepEqual(
    (await plain.take(3)).map(({ where }) => where),
    ['row 1', 'row 2'],
  );
  const packed = await StepLoader.open(set, { ...options, packing: true });
  t.deepEqual(
    (await packed.take(1)).map(({ where }) => where),
    ['row 1 + row 2', 'row 3 + row 4'],
  );
  t.deepEqual(packed.fill, { rows: 4, packs: 2, rate: 14 / 16 });
  await t.throwsAsync(StepLoader.open(set, { ...options, packing: true, lengthGrouped: true }), {
    code: 'config',
    message: /packs are filled/,
  });
  await packed.close();
});
