import type { ExecutionContext } from 'ava';
import type { Tensor } from 'lorikeet';

export async function numbers(x: Tensor): Promise<number[]> {
  return Array.from(await x.data(), Number);
}

/** The largest absolute difference; infinite for different lengths or NaN. */
export function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs((a[i] ?? Number.NaN) - (b[i] ?? Number.NaN));
    if (!(difference <= largest)) largest = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
  }
  return largest;
}

export function near(t: ExecutionContext, got: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number, what: string): void {
  const d = distance(got, expected);
  t.true(d <= tolerance, `${what}: differs by ${d}, expected at most ${tolerance}`);
}

/** max - min. */
export const rangeOf = (values: readonly number[]): number => Math.max(...values) - Math.min(...values);
