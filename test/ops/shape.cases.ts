import * as ops from 'lorikeet/ops';
import type { OpCase } from '../helpers/battery.js';
import { at, build } from '../helpers/dense.js';

const notBatched = 'rows are moved, not computed';

export const cases: OpCase[] = [
  {
    name: 'reshape',
    covers: ['reshape'],
    inputs: [{ shape: [2, 3, 4] }],
    run: (x) => ops.reshape(x, [-1, 6]),
    reference: (x) => x.data,
    notBatched,
  },
  {
    name: 'permute',
    covers: ['permute'],
    inputs: [{ shape: [2, 3, 4] }],
    run: (x) => ops.permute(x, [2, 0, 1]),
    reference: (x) => build([4, 2, 3], ([c, a, b]) => at(x, [a as number, b as number, c as number])),
    notBatched,
  },
  {
    name: 'transpose',
    covers: ['permute'],
    inputs: [{ shape: [3, 2, 5] }],
    run: (x) => ops.transpose(x),
    reference: (x) => build([x.shape[0] as number, 5, 2], ([a, c, b]) => at(x, [a as number, b as number, c as number])),
  },
  {
    name: 'narrow',
    covers: ['narrow'],
    inputs: [{ shape: [3, 7, 2] }],
    run: (x) => ops.narrow(x, 1, 2, 4),
    reference: (x) => build([x.shape[0] as number, 4, 2], ([a, b, c]) => at(x, [a as number, (b as number) + 2, c as number])),
  },
  {
    name: 'expand',
    covers: ['expand'],
    inputs: [{ shape: [3, 1, 2] }],
    run: (x) => ops.expand(x, [2, 3, 4, 2]),
    reference: (x) => build([2, 3, 4, 2], ([, a, , c]) => at(x, [a as number, 0, c as number])),
    notBatched,
  },
  {
    name: 'contiguous of a transposed view',
    covers: ['contiguous'],
    inputs: [{ shape: [3, 4, 2] }],
    run: (x) => {
      const turned = ops.transpose(x);
      const result = ops.contiguous(turned);
      turned.dispose();
      return result;
    },
    reference: (x) => build([x.shape[0] as number, 2, 4], ([a, c, b]) => at(x, [a as number, b as number, c as number])),
  },
  {
    name: 'concat along the first dimension',
    covers: ['concat'],
    inputs: [{ shape: [2, 3] }, { shape: [1, 3] }, { shape: [0, 3] }],
    run: (a, b, c) => ops.concat([a, b, c]),
    reference: (a, b) => [...a.data, ...b.data],
    notBatched,
  },
  {
    name: 'concat along the last dimension',
    covers: ['concat'],
    inputs: [{ shape: [3, 2] }, { shape: [3, 5] }],
    run: (a, b) => ops.concat([a, b], -1),
    reference: (a, b) =>
      build([a.shape[0] as number, 7], ([row, c]) =>
        (c as number) < 2 ? at(a, [row as number, c as number]) : at(b, [row as number, (c as number) - 2]),
      ),
  },
  {
    name: 'stack',
    covers: ['concat'],
    inputs: [{ shape: [3, 2] }, { shape: [3, 2] }],
    run: (a, b) => ops.stack([a, b], 1),
    reference: (a, b) => build([a.shape[0] as number, 2, 2], ([row, which, c]) => at(which === 0 ? a : b, [row as number, c as number])),
  },
];
