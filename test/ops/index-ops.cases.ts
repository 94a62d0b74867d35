import * as ops from 'lorikeet/ops';
import type { Dense, OpCase } from '../helpers/battery.js';
import { at, build, offsetOf } from '../helpers/dense.js';
import type { Values } from '../helpers/values.js';

const below =
  (limit: number): Values =>
  (_, random) =>
    Math.floor(random() * limit);

const lookUp = (weight: Dense, ids: Dense): number[] => {
  const width = weight.shape[1] as number;
  return ids.data.flatMap((id) => weight.data.slice(id * width, (id + 1) * width));
};

/** The k largest of each row, largest first, lowest index first among equal ones. */
function top(x: Dense, k: number): number[][] {
  const width = x.shape.at(-1) as number;
  const values: number[] = [];
  const indices: number[] = [];
  for (let start = 0; start < x.data.length; start += width) {
    const row = x.data.slice(start, start + width);
    const order = row.map((_, i) => i).sort((a, b) => (row[b] as number) - (row[a] as number) || a - b);
    values.push(...order.slice(0, k).map((i) => row[i] as number));
    indices.push(...order.slice(0, k));
  }
  return [values, indices];
}

/** Few distinct values: many ties. */
const ties: Values = (_, random) => Math.floor(random() * 5) - 2;

export const cases: OpCase[] = [
  ...(['i64', 'i32'] as const).map(
    (dtype): OpCase => ({
      name: `embedding with ${dtype} ids`,
      covers: ['embedding'],
      inputs: [
        { shape: [11, 5], batched: false },
        { shape: [3, 4], dtype, values: below(11) },
      ],
      run: (weight, ids) => ops.embedding(weight, ids),
      reference: lookUp,
    }),
  ),
  {
    name: 'indexSelect of rows',
    covers: ['indexSelect'],
    inputs: [
      { shape: [6, 3], batched: false },
      { shape: [5], dtype: 'i64', values: below(6) },
    ],
    run: (x, index) => ops.indexSelect(x, 0, index),
    reference: lookUp,
  },
  {
    name: 'indexSelect in the middle',
    covers: ['indexSelect'],
    inputs: [{ shape: [3, 6, 2] }, { shape: [4], dtype: 'i64', values: below(6), batched: false }],
    run: (x, index) => ops.indexSelect(x, 1, index),
    reference: (x, index) =>
      build([x.shape[0] as number, 4, 2], ([a, k, c]) => at(x, [a as number, index.data[k as number] as number, c as number])),
  },
  ...[0, 1, 2].map(
    (dim): OpCase => ({
      name: `gather along ${dim}`,
      covers: ['gather'],
      inputs: [{ shape: [4, 4, 4] }, { shape: [4, 4, 4].map((size, i) => (i === dim ? 5 : size)), dtype: 'i64', values: below(4) }],
      run: (x, index) => ops.gather(x, dim, index),
      reference: (x, index) =>
        build(index.shape, (place) =>
          at(
            x,
            place.map((p, i) => (i === dim ? at(index, place) : p)),
          ),
        ),
      ...(dim === 0 && { notBatched: 'the rows are what is chosen from' }),
    }),
  ),
  ...[0, 1, 2].map(
    (dim): OpCase => ({
      name: `scatterAdd along ${dim}`,
      covers: ['scatterAdd'],
      inputs: [
        { shape: [4, 4, 3] },
        { shape: [4, 4, 3].map((size, i) => (i === dim ? 7 : size)), dtype: 'i64', values: below(3) },
        { shape: [4, 4, 3].map((size, i) => (i === dim ? 7 : size)) },
      ],
      run: (x, index, source) => ops.scatterAdd(x, dim, index, source),
      reference: (x, index, source) => {
        const result = [...x.data];
        build(index.shape, (place) => {
          const to = offsetOf(
            x.shape,
            place.map((p, i) => (i === dim ? at(index, place) : p)),
          );
          result[to] = (result[to] as number) + at(source, place);
          return 0;
        });
        return result;
      },
      ...(dim === 0 && { notBatched: 'the rows are what is added to' }),
    }),
  ),
  ...[0, 1, 3, 9].map(
    (k): OpCase => ({
      name: `topK of ${k}`,
      covers: ['topK'],
      inputs: [{ shape: [3, 9] }],
      run: (x) => {
        const { values, indices } = ops.topK(x, k);
        return [values, indices];
      },
      reference: (x) => top(x, k),
    }),
  ),
  {
    name: 'topK of ties',
    covers: ['topK'],
    inputs: [{ shape: [3, 40], values: ties }],
    run: (x) => {
      const { values, indices } = ops.topK(x, 13);
      return [values, indices];
    },
    reference: (x) => top(x, 13),
    notDifferentiable: 'a finite difference would cross a tie',
  },
];
