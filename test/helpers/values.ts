// Numbers for tests: drawn from a seed, and compared with a scale.

/** A small generator (mulberry32): numbers in [0, 1). */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** How the values of an input are drawn: a named distribution, or a function of the element's index and a source of uniform numbers. */
export type Values = 'normal' | 'positive' | 'away-from-zero' | ((index: number, random: () => number) => number);

export function draw(values: Values, count: number, seed: number): number[] {
  const random = generator(seed);
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return Array.from({ length: count }, (_, i) => {
    if (typeof values === 'function') return values(i, random);
    if (values === 'positive') return 0.2 + 2 * random();
    const value = normal();
    // Kinks at zero must not lie within the step of a finite difference.
    return values === 'away-from-zero' && Math.abs(value) < 0.05 ? 0.5 : value;
  });
}

export const sizeOf = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

/** The largest difference of two lists, relative to the largest expected number (at least 1); NaN and infinities must agree exactly. */
export function worstError(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (got.length !== expected.length) return Number.POSITIVE_INFINITY;
  let scale = 1;
  for (let i = 0; i < expected.length; i++) {
    const value = Math.abs(expected[i] as number);
    if (Number.isFinite(value)) scale = Math.max(scale, value);
  }
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    const a = got[i] as number;
    const b = expected[i] as number;
    if (Object.is(a, b) || a === b) continue;
    const error = Number.isFinite(b) ? Math.abs(a - b) / scale : Number.POSITIVE_INFINITY;
    worst = Number.isNaN(error) ? Number.POSITIVE_INFINITY : Math.max(worst, error);
  }
  return worst;
}

/** True when both hold the same bits. */
export function sameBits(a: ArrayBufferView, b: ArrayBufferView): boolean {
  const bytes = (view: ArrayBufferView): Buffer => Buffer.from(view.buffer, view.byteOffset, view.byteLength);
  return bytes(a).equals(bytes(b));
}
