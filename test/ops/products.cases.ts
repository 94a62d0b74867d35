import { scope, type Tensor } from 'lorikeet';
import { linear, lowRankLinear, lowRankLinears, matmul, packWeight, sgmv } from 'lorikeet/ops';
import type { Dense, OpCase } from '../helpers/battery.js';
import { at, build } from '../helpers/dense.js';

// The matrix products in the battery; their own tests go through more sizes, pairs of dtypes and error bounds.

/** x [.., K] times w [N, K] transposed. */
function product(x: Dense, w: Dense): number[] {
  const [outputs, inputs] = w.shape as [number, number];
  const rows = x.shape.slice(0, -1).reduce((a, b) => a * b, 1);
  return build([rows, outputs], ([row, n]) => {
    let sum = 0;
    for (let k = 0; k < inputs; k++)
      sum += (x.data[(row as number) * inputs + k] as number) * (w.data[(n as number) * inputs + k] as number);
    return sum;
  });
}

const plus = (a: readonly number[], b: (i: number) => number): number[] => a.map((v, i) => v + b(i));
const matrix = (outputs: number, inputs: number) => ({ shape: [outputs, inputs], batched: false });

/** x A transposed, times B transposed, as plain numbers. */
const lowRank = (x: Dense, a: Dense, b: Dense): number[] =>
  product({ shape: [...x.shape.slice(0, -1), a.shape[0] as number], data: product(x, a) }, b);

/** Factors pass through bf16 where the base does, so that errors of a product of three add up. */
const tolerance = { f32: 1e-5, bf16: 4e-2, f16: 6e-3 };

export const cases: OpCase[] = [
  {
    name: 'matmul',
    covers: ['matmul'],
    inputs: [{ shape: [3, 5, 7] }, { shape: [3, 7, 4] }],
    run: (a, b) => matmul(a, b),
    reference: (a, b) =>
      build([a.shape[0] as number, 5, 4], ([i, m, n]) => {
        let sum = 0;
        for (let k = 0; k < 7; k++) sum += at(a, [i as number, m as number, k]) * at(b, [i as number, k, n as number]);
        return sum;
      }),
  },
  {
    name: 'matmul of rows with a shared matrix',
    covers: ['matmul'],
    inputs: [{ shape: [3, 2, 17] }, { shape: [17, 5], batched: false }],
    run: (a, b) => matmul(a, b),
    reference: (a, b) => product(a, { shape: [5, 17], data: build([5, 17], ([n, k]) => at(b, [k as number, n as number])) }),
  },
  {
    name: 'linear with a packed weight',
    covers: ['linear', 'packWeight'],
    inputs: [{ shape: [3, 2, 19] }, { ...matrix(21, 19), differentiable: false }, { shape: [21], batched: false }],
    run: (x, weight, bias) => {
      const packed = packWeight(weight);
      const y = linear(x, packed, bias);
      packed.dispose();
      return y;
    },
    reference: (x, weight, bias) => plus(product(x, weight), (i) => bias.data[i % 21] as number),
    tolerance,
  },
  {
    name: 'linear with a dense weight',
    covers: ['linear'],
    inputs: [{ shape: [3, 6] }, matrix(5, 6)],
    run: (x, weight) => linear(x, weight),
    reference: product,
    tolerance,
  },
  {
    name: 'a packed weight comes back as it was',
    covers: ['packWeight', 'unpackWeight'],
    inputs: [{ shape: [9, 5] }],
    run: (weight) => {
      const packed = packWeight(weight);
      const back = packed.unpack();
      packed.dispose();
      return back;
    },
    reference: (weight) => weight.data,
    notDifferentiable: 'a packed weight is frozen',
    notBatched: 'a weight has no batch',
  },
  {
    name: 'lowRankLinear with two adapters',
    covers: ['lowRankLinear'],
    inputs: [{ shape: [3, 2, 8] }, { ...matrix(6, 8), differentiable: false }, matrix(2, 8), matrix(6, 2), matrix(3, 8), matrix(6, 3)],
    run: (x, weight, a1, b1, a2, b2) =>
      scope(() => {
        const packed = packWeight(weight);
        const y = lowRankLinear(x, packed, {
          adapters: [
            { a: a1, b: b1, scale: 0.5 },
            { a: a2, b: b2, scale: -2 },
          ],
        });
        packed.dispose();
        return y;
      }),
    reference: (x, weight, a1, b1, a2, b2) => {
      const [first, second] = [lowRank(x, a1, b1), lowRank(x, a2, b2)];
      return plus(product(x, weight), (i) => 0.5 * (first[i] as number) - 2 * (second[i] as number));
    },
    tolerance,
  },
  {
    name: 'lowRankLinears with and without adapters',
    covers: ['lowRankLinears'],
    inputs: [
      { shape: [3, 2, 8] },
      ...[6, 5, 4].map((outputs) => ({ ...matrix(outputs, 8), differentiable: false })),
      matrix(2, 8),
      matrix(6, 2),
      matrix(3, 8),
      matrix(4, 3),
    ],
    run: (x, first, second, third, a1, b1, a3, b3) =>
      scope(() => {
        const packed = [first, second, third].map((weight) => packWeight(weight as Tensor));
        const adapters = [[{ a: a1 as Tensor, b: b1 as Tensor, scale: 0.5 }], [], [{ a: a3 as Tensor, b: b3 as Tensor, scale: -2 }]];
        const y = lowRankLinears(
          x as Tensor,
          packed.map((weight, i) => ({ weight, adapters: adapters[i] ?? [] })),
        );
        for (const weight of packed) weight.dispose();
        return y;
      }),
    reference: (x, first, second, third, a1, b1, a3, b3) => {
      const dense = (value: Dense | undefined): Dense => value as Dense;
      const [low, high] = [lowRank(dense(x), dense(a1), dense(b1)), lowRank(dense(x), dense(a3), dense(b3))];
      return [
        plus(product(dense(x), dense(first)), (i) => 0.5 * (low[i] as number)),
        product(dense(x), dense(second)),
        plus(product(dense(x), dense(third)), (i) => -2 * (high[i] as number)),
      ];
    },
    tolerance,
  },
  {
    name: 'sgmv on every row',
    covers: ['sgmv'],
    inputs: [{ shape: [3, 8] }, matrix(4, 8), matrix(5, 4)],
    run: (x: Tensor, a: Tensor, b: Tensor) => sgmv(x, [{ a, b, scale: 1.5 }], [{ start: 0, end: x.shape[0] as number, adapters: [0] }]),
    reference: (x, a, b) => lowRank(x, a, b).map((v) => 1.5 * v),
    tolerance,
  },
];
