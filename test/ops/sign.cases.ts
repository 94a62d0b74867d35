import { fakeQuantize, kSignBits } from 'lorikeet/ops';
import type { Dense, OpCase } from '../helpers/battery.js';
import { bookOf, kEpsilon, momentsOf, nearest } from '../helpers/sign-reference.js';

function rounded({ data }: Dense, bits: number): number[] {
  const { mean, deviation } = momentsOf(data);
  const book = bookOf(bits);
  return data.map((w) => nearest(book, (w - mean) / (deviation + kEpsilon)).value * deviation + mean);
}

export const cases: OpCase[] = kSignBits.flatMap((bits) =>
  [
    [3, 5],
    [7, 40],
  ].map(
    (shape): OpCase => ({
      name: `fakeQuantize of [${shape.join(', ')}] to ${bits} bits`,
      covers: ['fakeQuantize'],
      inputs: [{ shape }],
      run: (w) => fakeQuantize(w, { bits }),
      reference: (w) => rounded(w, bits),
      notDifferentiable: 'a step function; its straight-through gradient is tested in sign.test.ts',
      notBatched: 'mean and deviation are those of the whole matrix',
    }),
  ),
);
