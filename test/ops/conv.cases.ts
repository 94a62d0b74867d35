import { conv1d, conv2d } from 'lorikeet/ops';
import type { Dense, OpCase } from '../helpers/battery.js';

interface Walk {
  readonly stride: readonly [number, number];
  /** top, bottom, left, right */
  readonly padding: readonly [number, number, number, number];
  readonly dilation: readonly [number, number];
  readonly groups: number;
}

const plain: Walk = { stride: [1, 1], padding: [0, 0, 0, 0], dilation: [1, 1], groups: 1 };

/** The definition, one output after the other. */
function reference(walk: Walk) {
  return (x: Dense, weight: Dense, bias?: Dense): number[] => {
    const [batch, channels, height, width] = x.shape as [number, number, number, number];
    const [outputs, inputs, rows, columns] = weight.shape as [number, number, number, number];
    const { stride, padding, dilation, groups } = walk;
    const high = Math.floor((height + padding[0] + padding[1] - dilation[0] * (rows - 1) - 1) / stride[0]) + 1;
    const wide = Math.floor((width + padding[2] + padding[3] - dilation[1] * (columns - 1) - 1) / stride[1]) + 1;
    const y: number[] = [];
    for (let b = 0; b < batch; b++)
      for (let o = 0; o < outputs; o++)
        for (let r = 0; r < high; r++)
          for (let q = 0; q < wide; q++) {
            let sum = bias?.data[o] ?? 0;
            for (let c = 0; c < inputs; c++)
              for (let i = 0; i < rows; i++)
                for (let j = 0; j < columns; j++) {
                  const [row, column] = [r * stride[0] - padding[0] + i * dilation[0], q * stride[1] - padding[2] + j * dilation[1]];
                  if (row < 0 || row >= height || column < 0 || column >= width) continue;
                  const channel = Math.floor((o * groups) / outputs) * inputs + c;
                  const value = x.data[((b * channels + channel) * height + row) * width + column] as number;
                  sum += value * (weight.data[((o * inputs + c) * rows + i) * columns + j] as number);
                }
            y.push(sum);
          }
    return y;
  };
}

/** The same for conv1d, as images one row high. */
const reference1d =
  (stride: number, before: number, after: number, dilation: number, groups: number) =>
  (x: Dense, weight: Dense, bias?: Dense): number[] => {
    const [batch, channels, length] = x.shape as [number, number, number];
    const [outputs, inputs, kernel] = weight.shape as [number, number, number];
    return reference({ stride: [1, stride], padding: [0, 0, before, after], dilation: [1, dilation], groups })(
      { shape: [batch, channels, 1, length], data: x.data },
      { shape: [outputs, inputs, 1, kernel], data: weight.data },
      bias,
    );
  };

const parameter = (...shape: number[]) => ({ shape, batched: false });
const covers = ['conv2d'];

export const cases: OpCase[] = [
  {
    name: 'conv2d 3x3 same',
    covers,
    inputs: [{ shape: [2, 3, 4, 5] }, parameter(5, 3, 3, 3), parameter(5)],
    run: (x, weight, bias) => conv2d(x, weight, bias, { padding: 'same' }),
    reference: reference({ ...plain, padding: [1, 1, 1, 1] }),
  },
  {
    name: 'conv2d 1x1',
    covers,
    inputs: [{ shape: [3, 6, 3, 5] }, parameter(4, 6, 1, 1), parameter(4)],
    run: (x, weight, bias) => conv2d(x, weight, bias),
    reference: reference(plain),
  },
  {
    name: 'conv2d of patches that overlap',
    covers,
    inputs: [{ shape: [2, 1, 11, 8] }, parameter(4, 1, 6, 5), parameter(4)],
    run: (x, weight, bias) => conv2d(x, weight, bias, { stride: [4, 3] }),
    reference: reference({ ...plain, stride: [4, 3] }),
  },
  {
    name: 'conv2d with a stride beyond its kernel',
    covers,
    inputs: [{ shape: [2, 2, 8, 9] }, parameter(3, 2, 2, 1)],
    run: (x, weight) => conv2d(x, weight, undefined, { stride: 3 }),
    reference: reference({ ...plain, stride: [3, 3] }),
  },
  {
    name: 'conv2d dilated, padded, in groups',
    covers,
    inputs: [{ shape: [1, 4, 6, 6] }, parameter(6, 2, 3, 2), parameter(6)],
    run: (x, weight, bias) => conv2d(x, weight, bias, { stride: [2, 1], padding: [2, 1], dilation: [2, 3], groups: 2 }),
    reference: reference({ stride: [2, 1], padding: [2, 2, 1, 1], dilation: [2, 3], groups: 2 }),
  },
  {
    name: 'conv2d of many channels, strided beyond its kernel on one side',
    covers,
    inputs: [{ shape: [1, 9, 4, 5] }, parameter(2, 9, 3, 1), parameter(2)],
    run: (x, weight, bias) => conv2d(x, weight, bias, { stride: [2, 3], padding: 1 }),
    reference: reference({ ...plain, stride: [2, 3], padding: [1, 1, 1, 1] }),
  },
  {
    name: 'conv2d of many channels, dilated',
    covers,
    inputs: [{ shape: [1, 16, 3, 5] }, parameter(4, 8, 2, 2)],
    run: (x, weight) => conv2d(x, weight, undefined, { padding: 1, dilation: [1, 2], groups: 2 }),
    reference: reference({ ...plain, padding: [1, 1, 1, 1], dilation: [1, 2], groups: 2 }),
  },
  {
    name: 'conv2d of more positions than a task takes',
    covers,
    inputs: [{ shape: [2, 1, 3, 71] }, parameter(2, 1, 2, 2), parameter(2)],
    run: (x, weight, bias) => conv2d(x, weight, bias),
    reference: reference(plain),
  },
  {
    name: 'conv2d of an even kernel, same',
    covers,
    inputs: [{ shape: [2, 2, 5, 6] }, parameter(2, 2, 4, 2)],
    run: (x, weight) => conv2d(x, weight, undefined, { padding: 'same' }),
    reference: reference({ ...plain, padding: [1, 2, 0, 1] }),
  },
  {
    name: 'conv2d depthwise',
    covers,
    inputs: [{ shape: [2, 2, 2, 35] }, parameter(2, 1, 3, 3), parameter(2)],
    run: (x, weight, bias) => conv2d(x, weight, bias, { padding: 1, groups: 2 }),
    reference: reference({ ...plain, padding: [1, 1, 1, 1], groups: 2 }),
  },
  {
    name: 'conv2d depthwise, rows of 18 in a block and over',
    covers,
    inputs: [{ shape: [1, 2, 7, 18] }, parameter(2, 1, 3, 3), parameter(2)],
    run: (x, weight, bias) => conv2d(x, weight, bias, { padding: 1, groups: 2 }),
    reference: reference({ ...plain, padding: [1, 1, 1, 1], groups: 2 }),
  },
  {
    name: 'conv2d depthwise, two outputs a channel, strided and dilated',
    covers,
    inputs: [{ shape: [2, 2, 6, 7] }, parameter(4, 1, 3, 2), parameter(4)],
    run: (x, weight, bias) => conv2d(x, weight, bias, { stride: [2, 3], padding: [0, 4], dilation: [1, 2], groups: 2 }),
    reference: reference({ stride: [2, 3], padding: [0, 0, 4, 4], dilation: [1, 2], groups: 2 }),
  },
  {
    name: 'conv1d strided',
    covers,
    inputs: [{ shape: [2, 3, 23] }, parameter(4, 3, 5), parameter(4)],
    run: (x, weight, bias) => conv1d(x, weight, bias, { stride: 2, padding: 2 }),
    reference: reference1d(2, 2, 2, 1, 1),
  },
  {
    name: 'conv1d depthwise, 31 wide, same',
    covers,
    inputs: [{ shape: [2, 2, 37] }, parameter(2, 1, 31)],
    run: (x, weight) => conv1d(x, weight, undefined, { padding: 'same', groups: 2 }),
    reference: reference1d(1, 15, 15, 1, 2),
  },
];
