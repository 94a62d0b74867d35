// The code books of signQuantize in plain numbers, made in another way than the engine makes them.

export const kEpsilon = 1e-5;

/** The complementary error function to a relative error of about 1e-15: a series below 2, a continued fraction above. */
function erfc(x: number): number {
  if (x < 0) return 2 - erfc(-x);
  if (x < 2) {
    let term = x;
    let total = x;
    for (let n = 1; n < 60; n++) {
      term *= -(x * x) / n;
      total += term / (2 * n + 1);
    }
    return 1 - (2 / Math.sqrt(Math.PI)) * total;
  }
  let fraction = 0;
  for (let n = 120; n > 0; n--) fraction = n / 2 / (x + fraction);
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + fraction);
}

/** Probability that a standard normal number lies below x. */
const below = (x: number): number => erfc(-x / Math.SQRT2) / 2;

/** The x with that probability, by Newton's method from 0, on whose side of the root the slope never fails. */
function quantile(p: number): number {
  let x = 0;
  for (let i = 0; i < 14; i++) x -= ((below(x) - p) * Math.sqrt(2 * Math.PI)) / Math.exp(-(x * x) / 2);
  return x;
}

export interface Book {
  readonly values: readonly number[];
  /** Half-way between neighbours. */
  readonly thresholds: readonly number[];
}

const halfway = (values: readonly number[]): number[] => values.slice(1).map((value, i) => (value + (values[i] as number)) / 2);

/** k-medians of a standard normal distribution after so many rounds from zeros. */
function medians(count: number, rounds: number): number[] {
  let values = new Array<number>(count).fill(0);
  for (let round = 0; round < rounds; round++) {
    const edges = [0, ...halfway(values).map(below), 1];
    values = values.map((_, i) => quantile(((edges[i] as number) + (edges[i + 1] as number)) / 2));
  }
  return values;
}

const books = new Map<number, Book>();

/** The code book of `bits` bits after 500 rounds. */
export function bookOf(bits: number): Book {
  const made =
    books.get(bits) ??
    (() => {
      const values = medians(2 ** bits, 500);
      return { values, thresholds: halfway(values) };
    })();
  books.set(bits, made);
  return made;
}

/** The code of z and what it stands for; a z on a threshold has the lower code and the value of the threshold. */
export function nearest({ values, thresholds }: Book, z: number): { code: number; value: number } {
  const code = thresholds.filter((threshold) => z > threshold).length;
  return { code, value: (z === thresholds[code] ? z : values[code]) as number };
}

/** Mean and standard deviation (n - 1 in the denominator). */
export function momentsOf(data: ArrayLike<number>): { mean: number; deviation: number } {
  const list = Array.from(data);
  const mean = list.reduce((sum, x) => sum + x, 0) / list.length;
  return { mean, deviation: Math.sqrt(list.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (list.length - 1)) };
}
