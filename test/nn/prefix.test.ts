import test from 'ava';
import type { Tensor } from 'lorikeet';
import { attend, type ForwardContext, inference, KeyValueCache, type KeyValuePrefix } from 'lorikeet/nn';
import { attention, concat, expand, mul, narrow, normal, sum } from 'lorikeet/ops';
import { tensor } from '#dist/ops/create.js';
import { noGrad, scope } from '#dist/scope.js';
import { centralDifferences } from '../helpers/gradient-check.js';
import { numbersOf, outputWeights } from '../helpers/op-case.js';

const [B, T, H, G, K, P] = [3, 5, 4, 2, 8, 3];
const random = (shape: readonly number[], seed: number): Tensor => normal(shape, { seed, dtype: 'f64' });
const tokens = (): { q: Tensor; k: Tensor; v: Tensor } => ({
  q: random([B, T, H, K], 1),
  k: random([B, T, G, K], 2),
  v: random([B, T, G, K], 3),
});
const prefixOf = (length: number, seed: number, rows = 1): KeyValuePrefix => ({
  keys: random([rows, length, G, K], seed),
  values: random([rows, length, G, K], seed + 1),
});
const cloneOf = (x: Tensor): number[] => numbersOf(x);
const worst = (a: readonly number[], b: readonly number[]): number =>
  a.length === b.length ? Math.max(...a.map((x, i) => Math.abs(x - (b[i] as number)))) : Infinity;
const row = (x: Tensor, b: number): Tensor => narrow(x, 0, b, 1);

/** One row by plain attention over its prefix and the first `length` tokens. */
function expected(b: number, prefix: KeyValuePrefix | undefined, length: number, causal: boolean): number[] {
  const { q, k, v } = tokens();
  const first = (x: Tensor): Tensor => narrow(row(x, b), 1, 0, length);
  const join = (part: Tensor | undefined, x: Tensor): Tensor => (part === undefined ? first(x) : concat([part, first(x)], 1));
  return cloneOf(attention(first(q), join(prefix?.keys, k), join(prefix?.values, v), { causal }));
}

for (const causal of [true, false]) {
  test(`a prefix stands in front of the keys of every row, ${causal ? 'causal' : 'not causal'}`, (t) => {
    scope(() => {
      const { q, k, v } = tokens();
      const prefix = prefixOf(P, 10);
      const out = attend(q, k, v, { ...inference, prefix }, { layer: 0, causal });
      for (let b = 0; b < B; b++) t.true(worst(cloneOf(row(out, b)), expected(b, prefix, T, causal)) < 1e-12);
      t.true(worst(cloneOf(out), cloneOf(attend(q, k, v, inference, { layer: 0, causal }))) > 1e-2);
    });
  });

  test(`rows with prefixes of their own and padded tokens compute as alone, ${causal ? 'causal' : 'not causal'}`, (t) => {
    scope(() => {
      const { q, k, v } = tokens();
      const own = [prefixOf(P, 10), undefined, prefixOf(1, 20)];
      const lengths = [5, 3, 4];
      const keyLengths = tensor(BigInt64Array.from(lengths, BigInt));
      const out = attend(q, k, v, { ...inference, keyLengths, prefix: own }, { layer: 0, causal });
      for (const [b, length] of lengths.entries()) {
        const alone = (x: Tensor): Tensor => narrow(row(x, b), 1, 0, length);
        const prefix = own[b];
        const single = attend(alone(q), alone(k), alone(v), { ...inference, ...(prefix && { prefix }) }, { layer: 0, causal });
        t.deepEqual(cloneOf(narrow(row(out, b), 1, 0, length)), cloneOf(single), `row ${b}`);
        t.true(worst(cloneOf(single), expected(b, prefix, length, causal)) < 1e-12);
      }
    });
  });
}

test('a cache keeps the prefix in front of the tokens, pass by pass and when rows leave', (t) => {
  const own = [prefixOf(P, 10), undefined, prefixOf(1, 20)];
  for (const prefix of [own, prefixOf(P, 10)]) {
    scope(() =>
      noGrad(() => {
        const { q, k, v } = tokens();
        const whole = attend(q, k, v, { ...inference, prefix }, { layer: 0 });
        const cache = new KeyValueCache({ rows: B, capacity: T, layers: 1, keyValueHeads: G, headWidth: K, dtype: 'f64' });
        const step = (rows: readonly number[], from: number, length: number): Tensor => {
          const part = (x: Tensor): Tensor => concat(rows.map((b) => narrow(row(x, b), 1, from, length)));
          const ends = tensor(
            rows.map(() => from + length),
            { dtype: 'i64' },
          );
          const context: ForwardContext = { ...inference, cache, keyLengths: ends, ...(from === 0 && { prefix }) };
          const out = attend(part(q), part(k), part(v), context, { layer: 0 });
          cache.advance(rows.map(() => length));
          return out;
        };
        const wanted = (rows: readonly number[], from: number, length: number): number[] =>
          cloneOf(concat(rows.map((b) => narrow(row(whole, b), 1, from, length))));
        t.true(worst(cloneOf(step([0, 1, 2], 0, 2)), wanted([0, 1, 2], 0, 2)) < 1e-12);
        t.true(worst(cloneOf(step([0, 1, 2], 2, 1)), wanted([0, 1, 2], 2, 1)) < 1e-12);
        cache.keepRows([2, 0]);
        t.true(worst(cloneOf(step([2, 0], 3, 2)), wanted([2, 0], 3, 2)) < 1e-12);
        cache.dispose();
      }),
    );
  }
});

test('the gradient reaches the prefix, whether rows share it or not', (t) => {
  const { q, k, v } = tokens();
  const inputs = [random([1, P, G, K], 10), random([1, P, G, K], 11)];
  for (const input of inputs) input.setRequiresGrad(true);
  for (const shared of [true, false]) {
    const run = (keys: Tensor, values: Tensor): Tensor =>
      attend(q, k, v, { ...inference, prefix: shared ? { keys, values } : [{ keys, values }, undefined, { keys, values }] }, { layer: 0 });
    for (const input of inputs) input.clearGrad();
    scope(() => {
      const out = run(inputs[0] as Tensor, inputs[1] as Tensor);
      sum(mul(out, tensor(outputWeights(out.shape, 0) as number[], { shape: out.shape, dtype: 'f64' }))).backward();
    });
    const found = centralDifferences({ run } as never, inputs);
    for (const [i, input] of inputs.entries()) {
      const gradient = numbersOf(input.grad as Tensor);
      t.true(worst(gradient, found[i] as number[]) < 1e-7 * Math.max(...gradient.map(Math.abs)), `input ${i}`);
    }
  }
});

test('a prefix of another shape, or packed documents behind one, are refused', (t) => {
  scope(() => {
    const { q, k, v } = tokens();
    const wide = { keys: random([1, P, G, K + 1], 1), values: random([1, P, G, K + 1], 2) };
    t.throws(() => attend(q, k, v, { ...inference, prefix: wide }, { layer: 0 }), { message: /prefix does not fit the layer/ });
    t.throws(() => attend(q, k, v, { ...inference, prefix: [prefixOf(P, 1)] }, { layer: 0 }), {
      message: /an entry a row; got 1, expected 3/,
    });
    const documents = expand(tensor([[0]], { dtype: 'i32' }), [B, T]);
    t.throws(() => attend(q, k, v, { ...inference, prefix: prefixOf(P, 1), documents }, { layer: 0 }), { message: /packed documents/ });
  });
});
