// Convolutions. FLOPs: 2 for each product of a weight and an input; forward and backward together have three such products (y, dx, dw).
// npm run bench -- conv [--only TEXT] [--threads N] [--peer PYTHON] [--json]
import type { DType } from 'lorikeet';
import { conv2d, matmul } from 'lorikeet/ops';
import { type Case, forwardBackward, leaf, random, runCases } from './cases.js';
import type { Suite } from './harness.js';

interface Shape {
  readonly x: readonly [batch: number, channels: number, height: number, width: number];
  readonly weight: readonly [outputs: number, inputs: number, rows: number, columns: number];
  readonly stride?: number;
  readonly same?: boolean;
}

const shapes: Readonly<Record<string, Shape>> = {
  'patches 16x16/10 of 128x500': { x: [4, 1, 128, 500], weight: [768, 1, 16, 16], stride: 10 },
  'patches 16x16/16 of 224x224': { x: [4, 3, 224, 224], weight: [768, 3, 16, 16], stride: 16 },
  '3x3 of 64x56x56': { x: [4, 64, 56, 56], weight: [64, 64, 3, 3], same: true },
  '1x1 of 256x28x28': { x: [4, 256, 28, 28], weight: [256, 256, 1, 1] },
  'depthwise 31 of 256x470': { x: [8, 256, 1, 470], weight: [256, 1, 1, 31], same: true },
  'depthwise 3x3 of 96x56x56': { x: [4, 96, 56, 56], weight: [96, 1, 3, 3], same: true },
};

function convCase(name: string, shape: Shape, dtype: DType, backward: boolean): Case {
  const { x: sizes, weight: weights, stride = 1, same = false } = shape;
  const [outputs, inputs, rows, columns] = weights;
  const groups = sizes[1] / inputs;
  const options = { stride, groups, padding: same ? ('same' as const) : 0 };
  const out = [sizes[2], sizes[3]].map((size, side) => (same ? size : Math.floor((size - (side === 0 ? rows : columns)) / stride) + 1));
  const positions = (out[0] ?? 0) * (out[1] ?? 0);
  return {
    name: `conv2d ${name} ${backward ? 'forward+backward' : 'forward'}`,
    dtype,
    work: { flops: 2 * sizes[0] * outputs * inputs * rows * columns * positions * (backward ? 3 : 1) },
    baseline: 'a matrix product of as many multiplications',
    peer: { op: 'conv2d', x: sizes.join(), weight: weights.join(), stride, same, groups, backward },
    prepare() {
      const make = (shape: readonly number[]) => (backward ? leaf([...shape], dtype) : random([...shape], dtype));
      const [x, weight] = [make(sizes), make(weights)];
      const dy = random([sizes[0], outputs, ...out], dtype);
      const [left, right] = [make([sizes[0] * positions, inputs * rows * columns]), make([inputs * rows * columns, outputs])];
      const product = random([sizes[0] * positions, outputs], dtype);
      const own = () => conv2d(x, weight, undefined, options);
      const other = () => matmul(left, right);
      return {
        run: () => (backward ? forwardBackward(own, dy, [x, weight]) : own()),
        baseline: () => (backward ? forwardBackward(other, product, [left, right]) : other()),
      };
    },
  };
}

const cases = Object.entries(shapes).flatMap(([name, shape]) =>
  (['f32', 'bf16'] as const).flatMap((dtype) => [false, true].map((backward) => convCase(name, shape, dtype, backward))),
);

export const suite: Suite = {
  description: 'convolutions: patches, 3x3, 1x1, depthwise; forward and backward',
  run: (args, report) => runCases(args, report, cases),
};
