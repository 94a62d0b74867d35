import { scope, type Tensor } from 'lorikeet';
import { crossEntropy, logitsCrossEntropy, packWeight } from 'lorikeet/ops';
import type { Dense, OpCase } from '../helpers/battery.js';
import type { InputSpec } from '../helpers/op-case.js';

const ignored = -100;

/** Losses of rows of logits. */
function losses(logits: readonly (readonly number[])[], targets: Dense): number[] {
  return logits.map((row, i) => {
    const target = targets.data[i] as number;
    if (target === ignored) return 0;
    const most = Math.max(...row);
    return most + Math.log(row.reduce((sum, z) => sum + Math.exp(z - most), 0)) - (row[target] as number);
  });
}

function logitsOf(hidden: Dense, head: Dense, bias: Dense | undefined, scale: number): number[][] {
  const [vocabulary, width] = head.shape as [number, number];
  const rows = hidden.data.length / width;
  return Array.from({ length: rows }, (_, row) =>
    Array.from({ length: vocabulary }, (_, v) => {
      let z = bias?.data[v] ?? 0;
      for (let i = 0; i < width; i++) z += (hidden.data[row * width + i] as number) * (head.data[v * width + i] as number);
      return z * scale;
    }),
  );
}

const split = (x: Dense): number[][] => {
  const width = x.shape.at(-1) as number;
  return Array.from({ length: x.data.length / width }, (_, row) => x.data.slice(row * width, (row + 1) * width));
};

/** Every fourth row is left out. */
const targets = (shape: readonly number[], vocabulary: number, dtype: 'i64' | 'i32' = 'i64'): InputSpec => ({
  shape,
  dtype,
  values: (i, random) => (i % 4 === 3 ? ignored : Math.floor(random() * vocabulary)),
});

const frozenHead = (head: Tensor, fn: (packed: ReturnType<typeof packWeight>) => Tensor): Tensor => {
  const packed = packWeight(head);
  const result = fn(packed);
  packed.dispose();
  return result;
};

/** Logits of bf16 and f16 heads are sums of products that are exact in f32, but gradients pass through 16 bits once more. */
const tolerance = { f32: 1e-5, bf16: 2e-2, f16: 4e-3 };

const trained = (width: number, vocabulary: number, options: { readonly bias?: boolean; readonly scale?: number }): OpCase => ({
  name: `crossEntropy of ${width} with a trained head of ${vocabulary}${options.bias ? ' and bias' : ''}`,
  covers: ['crossEntropy'],
  inputs: [
    { shape: [5, width] },
    { shape: [vocabulary, width], batched: false },
    targets([5], vocabulary),
    ...(options.bias ? [{ shape: [vocabulary], batched: false }] : []),
  ],
  run: (hidden, head, target, bias) =>
    crossEntropy(hidden, head, target, { reduction: 'none', logitScale: options.scale ?? 1, ...(bias && { bias }) }),
  reference: (hidden, head, target, bias) => losses(logitsOf(hidden, head, bias, options.scale ?? 1), target),
  tolerance,
});

const frozen = (width: number, vocabulary: number, packed: boolean): OpCase => ({
  name: `crossEntropy of ${width} with a ${packed ? 'packed' : 'dense'} frozen head of ${vocabulary}`,
  covers: ['crossEntropy'],
  inputs: [{ shape: [5, width] }, { shape: [vocabulary, width], batched: false, differentiable: false }, targets([5], vocabulary, 'i32')],
  run: (hidden, head, target) =>
    packed
      ? frozenHead(head, (weight) => crossEntropy(hidden, weight, target, { reduction: 'none' }))
      : crossEntropy(hidden, head, target, { reduction: 'none' }),
  reference: (hidden, head, target) => losses(logitsOf(hidden, head, undefined, 1), target),
  tolerance,
});

export const cases: OpCase[] = [
  frozen(6, 11, true),
  frozen(3, 40, true),
  frozen(5, 7, false),
  trained(4, 9, {}),
  trained(3, 33, { bias: true, scale: 0.5 }),
  ...[5, 70].map(
    (vocabulary): OpCase => ({
      name: `logitsCrossEntropy of ${vocabulary}`,
      covers: ['logitsCrossEntropy'],
      inputs: [{ shape: [6, vocabulary] }, targets([6], vocabulary)],
      run: (logits, target) => logitsCrossEntropy(logits, target, { reduction: 'none', logitScale: 1.5 }),
      reference: (logits, target) =>
        losses(
          split(logits).map((row) => row.map((z) => 1.5 * z)),
          target,
        ),
    }),
  ),
  {
    name: 'logitsCrossEntropy, mean of what counts',
    covers: ['logitsCrossEntropy'],
    inputs: [{ shape: [2, 3, 8] }, targets([2, 3], 8)],
    run: (logits, target) => scope(() => logitsCrossEntropy(logits, target)),
    reference: (logits, target) => [
      losses(split(logits), target).reduce((a, b) => a + b, 0) / target.data.filter((v) => v !== ignored).length,
    ],
    notBatched: 'the rows are averaged',
  },
];
