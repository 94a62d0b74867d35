import test from 'ava';
import { MixedOrder, openDataset, RowOrder } from 'lorikeet/data';
import { letters } from '../helpers/letters.js';

const take = (order: { at(position: number): number }, count: number, start = 0) =>
  Array.from({ length: count }, (_, p) => order.at(start + p));

test('one source is in its own order', (t) => {
  t.deepEqual(take(new MixedOrder([7], { seed: 3 }), 30), take(new RowOrder(7, 3), 30));
});

test('without weights every source ends its epoch at the same position', (t) => {
  const order = new MixedOrder([5, 2, 3], { seed: 1 });
  for (const epoch of [0, 1, 2])
    t.deepEqual(
      take(order, 10, 10 * epoch).sort((a, b) => a - b),
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    );
});

test('weights are spread evenly: any stretch is off by less than the number of sources', (t) => {
  const weights = [0.5, 3, 1.25, 0.01];
  const order = new MixedOrder([10, 1000, 3, 50], { weights, seed: 1 });
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const counts = [0, 0, 0, 0];
  for (let p = 0; p < 20_000; p++) {
    const { source, index } = order.place(p);
    t.is(index, counts[source] ?? 0);
    counts[source] = index + 1;
    for (const [s, weight] of weights.entries())
      if (Math.abs((counts[s] ?? 0) - ((p + 1) * weight) / total) >= 4) t.fail(`source ${s} at ${p}`);
  }
  // Far out in the stream, where no history could be kept, parts are as exact.
  const far = order.place(1e12);
  t.true(Math.abs(far.index - (1e12 * (weights[far.source] ?? 0)) / total) < 4);
});

test('without a seed the sources take turns, each in file order', (t) => {
  t.deepEqual(take(new MixedOrder([2, 3], { weights: [1, 1] }), 8), [0, 2, 1, 3, 0, 4, 1, 2]);
  t.deepEqual(take(new MixedOrder([2, 3], { weights: [2, 1] }), 6), [0, 2, 1, 0, 3, 1]);
});

test('sources of one size do not run in step', (t) => {
  const order = new MixedOrder([50, 50], { seed: 4 });
  const rows = take(order, 100);
  t.notDeepEqual(
    rows.filter((row) => row < 50),
    rows.filter((row) => row >= 50).map((row) => row - 50),
  );
});

test('wrong weights', async (t) => {
  t.throws(() => new MixedOrder([2, 3], { weights: [1] }), {
    code: 'invalid-argument',
    message: /weights must be 2 numbers above 0; got 1/,
  });
  const open = (...weights: (number | undefined)[]) =>
    openDataset(
      weights.map((weight) => ({ rows: ['a'], ...(weight === undefined ? {} : { weight }) })),
      letters,
      { sequence: 8 },
    );
  await t.throwsAsync(open(), { code: 'config', message: /the list of sources is empty/ });
  await t.throwsAsync(open(1, undefined), {
    code: 'config',
    message: /"weight" must be given to all sources or to none; got it for 1 of 2/,
  });
  await t.throwsAsync(open(0, 1), { code: 'config', message: /"weight" must be a number above 0; got 0/ });
});

test('several sources are one set of rows', async (t) => {
  const set = await openDataset([{ rows: ['a', 'b'] }, { rows: [{ q: 'c', a: 'd' }], prompt: 'q', completion: 'a' }], letters, {
    sequence: 8,
  });
  t.is(set.length, 3);
  const [last, first] = await set.rows([2, 0]);
  t.deepEqual([...(last?.ids ?? [])], [1, 99, 100, 2]);
  t.deepEqual([...(first?.ids ?? [])], [1, 97]);
  t.deepEqual([...(await set.lengths())], [2, 2, 4]);
  t.deepEqual(
    set.sources.map(({ rows }) => rows),
    [2, 1],
  );
});
