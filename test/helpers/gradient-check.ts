// Gradients by central differences in f64.

import { scope, type Tensor } from 'lorikeet';
import { tensor } from 'lorikeet/ops';
import { numbersOf, type OpCase, outputsOf, outputWeights } from './op-case.js';

/** Step of the difference: the error is about step² from the curvature plus 1e-16 / step from rounding. */
const step = 1e-5;

/** Gradients of Σ weights · output 0 with respect to each input that wants one. */
export function centralDifferences(opCase: OpCase, inputs: readonly Tensor[]): (number[] | undefined)[] {
  const value = (changed: readonly Tensor[]): number =>
    scope(() => {
      const first = outputsOf(opCase.run(...changed))[0] as Tensor;
      const weights = outputWeights(first.shape, 0);
      return numbersOf(first).reduce((sum, x, i) => sum + x * (weights[i] as number), 0);
    });
  const plain = inputs.map((x) => x.detach());
  const gradients = inputs.map((x, at) => {
    if (!x.requiresGrad) return undefined;
    const numbers = numbersOf(x);
    return numbers.map((number, i) => {
      const shifted = (by: number): number =>
        scope(() => {
          const moved = tensor(
            numbers.map((other, j) => (i === j ? number + by : other)),
            { shape: x.shape, dtype: 'f64' },
          );
          return value(plain.map((input, j) => (j === at ? moved : input)));
        });
      return (shifted(step) - shifted(-step)) / (2 * step);
    });
  });
  for (const x of plain) x.dispose();
  return gradients;
}
