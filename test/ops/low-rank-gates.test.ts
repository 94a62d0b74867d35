import test from 'ava';
import { add, linear, lowRankLinear, matmul, mul, packWeight, transpose } from 'lorikeet/ops';
import { copyOf, factors } from '../helpers/low-rank.js';
import { atEveryLevel, numbers, random, sameBits, withoutLeaks, withThreads } from '../helpers/products.js';

const ranks = [1, 3, 8, 16, 33, 64, 256];
const [m, n, k] = [33, 70, 96];
const rms = (values: ArrayLike<number>): number =>
  Math.sqrt(Array.from(values).reduce((sum, value) => sum + value * value, 0) / values.length);
/** Distance of neighbours among bf16 values of this size. */
const ulp = (value: number): number => 2 ** (Math.floor(Math.log2(value)) - 7);

for (const dtype of ['f32', 'bf16'] as const) {
  test(`${dtype}: an adapter in the product equals one beside it, at every rank and level`, (t) => {
    withoutLeaks(t, () =>
      atEveryLevel(t, (level) => {
        for (const rank of ranks) {
          const x = random([m, k], dtype);
          const weight = random([n, k], dtype);
          using packed = packWeight(weight);
          const adapter = factors(k, n, rank, 'f32');
          const fused = numbers(lowRankLinear(x, packed, { adapters: [adapter] }));
          const wide = copyOf(x, 'f32');
          const base = linear(wide, copyOf(weight, 'f32'));
          const delta = mul(matmul(matmul(wide, transpose(adapter.a)), transpose(adapter.b)), adapter.scale);
          const terms = [numbers(base), numbers(delta)];
          const sizes = terms.map(rms);
          const expected = numbers(add(base, delta));
          const largest = Math.max(...expected.map(Math.abs));
          const excess = expected.map((value, i) => {
            const larger = Math.max(...terms.map((term, which) => Math.max(Math.abs(term[i] ?? 0), sizes[which] ?? 0)));
            return Math.abs((fused[i] ?? Number.NaN) - value) / (dtype === 'f32' ? 1e-5 * largest : 2 * ulp(larger));
          });
          t.true(Math.max(...excess) <= 1, `${level} rank ${rank}: ${Math.max(...excess)} of the bound`);
        }
      }),
    );
  });

  test(`${dtype}: a product with an adapter and its gradients have the same bits with 1, 2 and 3 threads`, (t) => {
    withoutLeaks(t, () =>
      atEveryLevel(t, (level) => {
        for (const rank of [3, 33]) {
          const x = random([m, k], dtype);
          const dy = random([m, n], dtype);
          using packed = packWeight(random([n, k], dtype));
          const { a, b, scale } = factors(k, n, rank, 'f32');
          const run = (count: number) =>
            withThreads(count, () => {
              const leaves = [x, a, b].map((input) => copyOf(input, input.dtype).setRequiresGrad(true));
              const [input = x, first = a, second = b] = leaves;
              const y = lowRankLinear(input, packed, { adapters: [{ a: first, b: second, scale }] });
              y.backward(dy);
              return [y, ...leaves.map((leaf) => leaf.grad ?? leaf)];
            });
          const [one, ...others] = [1, 2, 3].map(run);
          for (const other of others)
            for (const [i, value] of other.entries()) t.true(sameBits(value, one?.[i] ?? value), `${level} rank ${rank} result ${i}`);
        }
      }),
    );
  });
}
