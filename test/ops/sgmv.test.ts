import test from 'ava';
import { InvalidArgumentError, type Tensor } from 'lorikeet';
import { narrow, sgmv, tensor } from 'lorikeet/ops';
import { copyFactors, copyOf, factors, lowRankReference, rowsOf } from '../helpers/low-rank.js';
import { atEveryLevel, checkGradients, near, numbers, random, sameBits, withoutLeaks } from '../helpers/products.js';

const make = (values: Float64Array, shape: readonly number[]): Tensor => tensor(values, { shape, dtype: 'f64' });
const tolerance: Record<string, number> = { f64: 1e-13, f32: 4e-6, f16: 2e-3, bf16: 1.6e-2 };

test('products by segment at every level; rows outside are zero', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of ['f64', 'f32', 'bf16', 'f16'] as const) {
        for (const rank of [1, 3, 8, 16, 33, 64]) {
          const [m, n, k] = [29, 41, 35];
          const x = random([m, k], dtype);
          const adapters = [rank, 5].map((r) => factors(k, n, r, dtype === 'f64' ? 'f64' : 'f32'));
          const segments = [
            { start: 1, end: 14, adapters: [0] },
            { start: 14, end: 15, adapters: [1] },
            { start: 17, end: 29, adapters: [1, 0] },
          ];
          const y = sgmv(x, adapters, segments);
          near(t, numbers(y), lowRankReference(x, n, adapters, segments), tolerance[dtype] ?? 0, `${level} ${dtype} rank ${rank}`);
          t.true(numbers(narrow(y, 0, 15, 2)).every((v) => v === 0));
        }
      }
    }),
  );
});

test('decoding: one row per segment has the bits of that row alone', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      for (const dtype of ['f32', 'bf16'] as const) {
        const [m, n, k] = [23, 64, 96];
        const x = random([m, k], dtype);
        const adapters = [4, 8, 16, 33].map((rank) => factors(k, n, rank, 'f32'));
        const segments = Array.from({ length: m }, (_, i) => ({ start: i, end: i + 1, adapters: [i % 4] }));
        const y = sgmv(x, adapters, segments);
        for (const row of [0, 1, 11, 12, 22]) {
          const alone = sgmv(rowsOf(x, row, row + 1), adapters, [{ start: 0, end: 1, adapters: [row % 4] }]);
          t.true(sameBits(narrow(y, 0, row, 1), alone), `${level} ${dtype} row ${row}`);
        }
      }
    }),
  );
});

test('gradients against central differences in f64', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      const [m, n, k] = [6, 4, 5];
      const [first, second] = [factors(k, n, 2, 'f64'), factors(k, n, 3, 'f64')];
      checkGradients(
        t,
        { x: random([m, k], 'f64'), a0: first.a, b0: first.b, a1: second.a, b1: second.b },
        ({ x, a0, b0, a1, b1 }) =>
          sgmv(
            x as Tensor,
            [
              { a: a0 as Tensor, b: b0 as Tensor, scale: 2 },
              { a: a1 as Tensor, b: b1 as Tensor, scale: -0.5 },
            ],
            [
              { start: 0, end: 2, adapters: [1] },
              { start: 2, end: 3, adapters: [0] },
              { start: 4, end: 6, adapters: [0, 1] },
            ],
          ),
        make,
        level,
      );
    }),
  );
});

test('gradients of an adapter depend on its own rows alone', (t) => {
  withoutLeaks(t, () =>
    atEveryLevel(t, (level) => {
      const [n, k] = [30, 40];
      const adapters = [7, 12].map((rank) => factors(k, n, rank, 'f32'));
      const x = random([50, k]);
      const dy = random([50, n]);
      const run = (start: number, end: number, used: number[], at: number): Tensor[] => {
        const own = used.map((i) => copyFactors(adapters[i] as (typeof adapters)[number], 'f32', true));
        const segments = [
          { start: 0, end: 9, adapters: [1] },
          { start: 9, end: 41, adapters: [0] },
          { start: 41, end: 50, adapters: [1] },
        ];
        sgmv(
          copyOf(rowsOf(x, start, end), 'f32'),
          own,
          used.length === 2 ? segments : [{ start: 0, end: end - start, adapters: [0] }],
        ).backward(rowsOf(dy, start, end));
        return [own[at]?.a.grad as Tensor, own[at]?.b.grad as Tensor];
      };
      const together = run(0, 50, [0, 1], 0);
      run(9, 41, [0], 0).forEach((gradient, i) => {
        t.true(sameBits(gradient, together[i] as Tensor), `${level} factor ${i}`);
      });
    }),
  );
});

test('wrong arguments are errors', (t) => {
  withoutLeaks(t, () => {
    const x = random([4, 5]);
    t.throws(() => sgmv(x, [], []), { instanceOf: InvalidArgumentError, message: 'sgmv: needs at least one adapter' });
    t.throws(() => sgmv(x, [factors(6, 3, 2, 'f32')], []), {
      message: 'sgmv: A of adapter 0 does not fit; got [2, 6], expected [rank, 5]',
    });
  });
});
