import type { ExecutionContext } from 'ava';
import { type DType, memory, scope, type Tensor } from 'lorikeet';
import { normal } from 'lorikeet/ops';
import * as internals from '#dist/native.js';

// Helpers of the matrix-product tests. Everything is synchronous, so that tests that change the instruction level never interleave.

/** The engine controls, which are not part of the published types. */
interface Controls {
  machineIsaLevel(): string;
  isaLevel(): string;
  setIsaLevel(level: string): void;
  threads(): number;
  setThreads(count: number): void;
}
const { op } = internals as unknown as { op<Name extends keyof Controls>(name: Name): Controls[Name] };

const allLevels = ['scalar', 'avx2', 'avx512', 'avx512-bf16', 'amx-bf16'];
const machineLevel = op('machineIsaLevel')();

/** Runs `body` at every level this machine has, and says which ones it lacks. */
export function atEveryLevel(t: ExecutionContext, body: (level: string) => void): void {
  const before = op('isaLevel')();
  try {
    for (const level of allLevels) {
      if (allLevels.indexOf(level) > allLevels.indexOf(machineLevel)) {
        t.log(`level ${level} did not run: this machine has ${machineLevel}`);
        continue;
      }
      op('setIsaLevel')(level);
      scope(() => body(level));
    }
  } finally {
    op('setIsaLevel')(before);
  }
}

/** Runs `body` with so many threads. */
export function withThreads<T>(threads: number, body: () => T): T {
  const before = op('threads')();
  op('setThreads')(threads);
  try {
    return body();
  } finally {
    op('setThreads')(before);
  }
}

/** Runs `body` in a scope and checks that every tensor it made is gone afterwards. */
export function withoutLeaks(t: ExecutionContext, body: () => void): void {
  const before = memory().tensors;
  scope(body);
  t.is(memory().tensors, before, 'handles left behind');
}

export const numbers = (x: Tensor): Float64Array => Float64Array.from(x.dataSync() as Float64Array, Number);

let draws = 0;
export const random = (shape: readonly number[], dtype: DType = 'f32', std = 1): Tensor =>
  normal(shape, { dtype, std, seed: 11, stream: draws++ });

/** Half a unit in the last place, relative. */
export const roundoff: Record<string, number> = { f64: 2 ** -53, f32: 2 ** -24, f16: 2 ** -11, bf16: 2 ** -8 };

/** Σ_k a[m, k] b[n, k] in double, and the same of absolute values (what rounding errors are measured against). */
export function productReference(a: ArrayLike<number>, b: ArrayLike<number>, m: number, n: number, k: number) {
  const values = new Float64Array(m * n);
  const magnitudes = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      for (let c = 0; c < k; c++) {
        const term = (a[i * k + c] ?? 0) * (b[j * k + c] ?? 0);
        values[i * n + j] = (values[i * n + j] ?? 0) + term;
        magnitudes[i * n + j] = (magnitudes[i * n + j] ?? 0) + Math.abs(term);
      }
    }
  }
  return { values, magnitudes };
}

/** The largest |got - expected| / (tolerance_i); NaN counts as infinite. */
export function worstOf(got: ArrayLike<number>, expected: ArrayLike<number>, tolerance: (i: number) => number): number {
  if (got.length !== expected.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  for (let i = 0; i < got.length; i++) {
    const ratio = Math.abs((got[i] ?? Number.NaN) - (expected[i] ?? Number.NaN)) / tolerance(i);
    if (!(ratio <= worst)) worst = Number.isNaN(ratio) ? Number.POSITIVE_INFINITY : ratio;
  }
  return worst;
}

export const largest = (values: ArrayLike<number>): number =>
  Array.from(values).reduce((most, value) => Math.max(most, Math.abs(value)), 0);

/** Compares with a tolerance relative to the largest expected value. */
export function near(t: ExecutionContext, got: ArrayLike<number>, expected: ArrayLike<number>, relative: number, what: string): void {
  const scale = largest(expected) || 1;
  const worst = worstOf(got, expected, () => relative * scale);
  t.true(worst <= 1, `${what}: error is ${worst * relative} of the largest value, expected at most ${relative}`);
}

export const sameBits = (a: Tensor, b: Tensor): boolean => {
  const left = a.dataSync();
  const right = b.dataSync();
  return Buffer.from(left.buffer, left.byteOffset, left.byteLength).equals(Buffer.from(right.buffer, right.byteOffset, right.byteLength));
};

/**
 * Checks the gradients of f64 `inputs` under loss = Σ weight · f(inputs), for a random weight, against central differences. `perturbed(input)` makes the
 * same tensor with one element moved.
 */
export function checkGradients(
  t: ExecutionContext,
  inputs: Readonly<Record<string, Tensor>>,
  f: (inputs: Readonly<Record<string, Tensor>>) => Tensor,
  make: (values: Float64Array, shape: readonly number[]) => Tensor,
  what: string,
): void {
  const leaves = Object.fromEntries(Object.entries(inputs).map(([name, x]) => [name, make(numbers(x), x.shape).setRequiresGrad(true)]));
  const y = f(leaves);
  const weight = random(y.shape, 'f64');
  y.backward(weight);
  const weights = numbers(weight);
  const loss = (values: Readonly<Record<string, Tensor>>): number =>
    numbers(f(values)).reduce((sum, v, i) => sum + v * (weights[i] ?? 0), 0);
  const step = 1e-5;
  for (const [name, leaf] of Object.entries(leaves)) {
    const gradient = leaf.grad;
    t.truthy(gradient, `${what}: ${name} has no gradient`);
    if (!gradient) continue;
    t.deepEqual(gradient.shape, leaf.shape);
    const values = numbers(leaf);
    const expected = values.map((value, i) =>
      scope(() => {
        const moved = (to: number): number => loss({ ...inputs, [name]: make(values.with(i, to), leaf.shape) });
        return (moved(value + step) - moved(value - step)) / (2 * step);
      }),
    );
    near(t, numbers(gradient), expected, 1e-8, `${what}: gradient of ${name}`);
  }
}
