import type { Tensor } from 'lorikeet';
import * as ops from 'lorikeet/ops';
import type { OpCase } from '../helpers/battery.js';
import { groups } from '../helpers/dense.js';
import type { Values } from '../helpers/values.js';

type Dims = number | readonly number[] | undefined;

const total = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const indexOf = (pick: (...values: number[]) => number) => (values: readonly number[]) => values.indexOf(pick(...values));

/** Distinct values, so that no finite difference crosses a tie. */
const distinct: Values = (i) => ((i * 37) % 101) / 20 - 2.5;

const reductions: Record<string, [(x: Tensor, dims: Dims) => Tensor, (values: readonly number[]) => number, string?]> = {
  sum: [(x, dims) => ops.sum(x, dims), total],
  mean: [(x, dims) => ops.mean(x, dims), (values) => total(values) / values.length],
  max: [(x, dims) => ops.max(x, dims), (values) => Math.max(...values)],
  min: [(x, dims) => ops.min(x, dims), (values) => Math.min(...values)],
  argmax: [(x, dim) => ops.argmax(x, dim as number), indexOf(Math.max), 'the result is an index'],
  argmin: [(x, dim) => ops.argmin(x, dim as number), indexOf(Math.min), 'the result is an index'],
};

/** Shape, reduced dimensions as given and as a list, and why rows are not independent where that is so. */
const layouts: [string, number[], Dims, number[], string?][] = [
  ['the last dimension', [3, 35], -1, [1]],
  ['a middle dimension', [2, 7, 5], 1, [1]],
  ['the first dimension', [9, 4], 0, [0], 'the rows are summed'],
  ['everything', [3, 5, 2], undefined, [0, 1, 2], 'the rows are summed'],
  ['two dimensions', [2, 3, 4, 3], [1, 3], [1, 3]],
];

export const cases: OpCase[] = Object.entries(reductions).flatMap(([name, [run, reference, notDifferentiable]]) =>
  layouts
    .filter(([, , dims]) => !(name.startsWith('arg') && Array.isArray(dims)))
    .map(
      ([what, shape, dims, list, notBatched]): OpCase => ({
        name: `${name} over ${what}`,
        covers: ['reduce', `reduce:${name}`],
        inputs: [{ shape, values: distinct }],
        run: (x) => run(x, dims),
        reference: (x) => groups(x, list).map(reference),
        ...(notDifferentiable && { notDifferentiable }),
        ...(notBatched && { notBatched }),
      }),
    ),
);
