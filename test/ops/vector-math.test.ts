import test from 'ava';
import type { Tensor } from 'lorikeet';
import { erf, exp, log, narrow, sigmoid, tanh, tensor } from 'lorikeet/ops';
import { atEveryLevel, numbers, sameBits, withoutLeaks } from '../helpers/products.js';

// The f32 functions of native/cpu/vector-math.h, seen through the elementwise ops.

/** Abramowitz and Stegun 7.1.5 (series) and 7.1.14 (continued fraction), far below f32 rounding. */
function erfOf(x: number): number {
  const z = Math.abs(x);
  if (z < 3) {
    let [term, sum] = [z, z];
    for (let n = 1; n < 100; n++) {
      term *= (-z * z) / n;
      sum += term / (2 * n + 1);
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (z + fraction);
  return Math.sign(x) * (1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / (z + fraction));
}

const functions: Record<string, { f: (x: Tensor) => Tensor; exact: (x: number) => number; ulps: number; special: [number, number][] }> = {
  exp: {
    f: exp,
    exact: Math.exp,
    ulps: 1,
    special: [
      [-Infinity, 0],
      [Infinity, Infinity],
      [89, Infinity],
      [-104, 0],
      [0, 1],
      [-0, 1],
    ],
  },
  log: {
    f: log,
    exact: Math.log,
    ulps: 1,
    special: [
      [0, -Infinity],
      [-0, -Infinity],
      [-1, Number.NaN],
      [Infinity, Infinity],
      [-Infinity, Number.NaN],
      [1, 0],
    ],
  },
  tanh: {
    f: tanh,
    exact: Math.tanh,
    ulps: 1.5,
    special: [
      [Infinity, 1],
      [-Infinity, -1],
      [0, 0],
      [-0, -0],
    ],
  },
  sigmoid: {
    f: sigmoid,
    exact: (x) => 1 / (1 + Math.exp(-x)),
    ulps: 2.5,
    special: [
      [Infinity, 1],
      [-Infinity, 0],
      [0, 0.5],
    ],
  },
  erf: {
    f: erf,
    exact: erfOf,
    ulps: 1.5,
    special: [
      [Infinity, 1],
      [-Infinity, -1],
      [0, 0],
      [-0, -0],
    ],
  },
};

/** Spacing of f32 numbers at x. */
const spacing = (x: number): number => 2 ** Math.max(Math.floor(Math.log2(Math.abs(x))) - 23, -149);

/** Every f32 bit pattern `step` apart, and everything around the places where the formulas change. */
function inputs(): Float32Array {
  const step = 90001;
  const patterns = Uint32Array.from({ length: Math.floor(2 ** 32 / step) }, (_, i) => i * step);
  const edges = [0.625, 1, 4, 0.7071067, 1.4142135, 88.72, 103.9].flatMap((x) =>
    Array.from({ length: 41 }, (_, i) => x * (1 + (i - 20) * 2 ** -23)),
  );
  return Float32Array.from([...new Float32Array(patterns.buffer), ...edges, ...edges.map((x) => -x)]);
}

for (const [name, { f, exact, ulps, special }] of Object.entries(functions)) {
  test(`${name} is within ${ulps} units in the last place at every level`, (t) => {
    withoutLeaks(t, () =>
      atEveryLevel(t, (level) => {
        const x = inputs();
        const y = numbers(f(tensor(x)));
        let worst = 0;
        for (const [i, value] of x.entries()) {
          const expected = exact(value);
          const rounded = Math.fround(expected);
          const got = y[i] ?? 0;
          if (Object.is(got, rounded)) continue;
          const error = Number.isFinite(rounded) ? Math.abs(got - expected) / spacing(expected) : Number.POSITIVE_INFINITY;
          if (!(error <= worst)) worst = error;
        }
        t.true(worst <= ulps, `${level}: ${worst}`);
        const at = numbers(f(tensor(Float32Array.from(special, ([value]) => value))));
        t.deepEqual(
          Array.from(at),
          special.map(([, value]) => value),
          level,
        );
        t.true(Number.isNaN(numbers(f(tensor([Number.NaN])))[0]));
      }),
    );
  });

  test(`${name} has the same bits in vector bodies and scalar tails`, (t) => {
    withoutLeaks(t, () =>
      atEveryLevel(t, (level) => {
        const x = tensor(Float32Array.from({ length: 77 }, (_, i) => (i + 0.3) * 0.11 * (name === 'log' || i % 2 ? 1 : -1)));
        const whole = f(x);
        for (let i = 0; i < 77; i++) t.true(sameBits(narrow(whole, 0, i, 1), f(narrow(x, 0, i, 1))), `${level} ${i}`);
      }),
    );
  });
}
