// A frozen linear with one low-rank adapter against the bare frozen product, and many adapters in one product. FLOPs: 2 M N K for the weight and
// 2 M R (N + K) for the adapter forward; backward the same for the weight and twice that for the adapter.
// npm run bench -- low-rank [--only TEXT] [--threads N] [--peer PYTHON] [--json]
import type { DType } from 'lorikeet';
import { type LowRankFactors, linear, lowRankLinear, packWeight, type RowSegment } from 'lorikeet/ops';
import { type Case, forwardBackward, leaf, random, runCases } from './cases.js';
import type { Suite } from './harness.js';

const scale = 2;

function factors(rank: number, inputs: number, outputs: number, trained: boolean): LowRankFactors {
  const make = trained ? leaf : random;
  return { a: make([rank, inputs], 'f32', 0.05), b: make([outputs, rank], 'f32', 0.05), scale };
}

function oneAdapter(m: number, n: number, k: number, rank: number, dtype: DType, backward: boolean): Case {
  const passes = backward ? { weight: 2, adapter: 3 } : { weight: 1, adapter: 1 };
  return {
    name: `${m}x${n}x${k} r=${rank} ${backward ? 'forward+backward' : 'forward'}`,
    dtype,
    work: { flops: passes.weight * 2 * m * n * k + passes.adapter * 2 * m * rank * (n + k) },
    baseline: 'frozen product alone',
    peer: { op: 'lowRank', m, n, k, rank, backward },
    prepare() {
      const weight = packWeight(random([n, k], dtype, 0.05));
      const x = backward ? leaf([m, k], dtype) : random([m, k], dtype);
      const dy = random([m, n], dtype);
      const adapter = factors(rank, k, n, backward);
      const adapted = () => lowRankLinear(x, weight, { adapters: [adapter] });
      const bare = () => linear(x, weight);
      if (!backward) return { run: adapted, baseline: bare, owned: [weight] };
      return {
        run: () => forwardBackward(adapted, dy, [x, adapter.a, adapter.b]),
        baseline: () => forwardBackward(bare, dy, [x]),
        owned: [weight],
      };
    },
  };
}

/** Every adapter has the rows of one equal segment. */
function manyAdapters(m: number, n: number, k: number, rank: number, count: number, dtype: DType): Case {
  return {
    name: `${m}x${n}x${k} r=${rank} ${count} adapters, forward`,
    dtype,
    work: { flops: 2 * m * n * k + 2 * m * rank * (n + k) },
    baseline: 'one adapter',
    prepare() {
      const weight = packWeight(random([n, k], dtype, 0.05));
      const x = random([m, k], dtype);
      const adapters = Array.from({ length: count }, () => factors(rank, k, n, false));
      const rows = m / count;
      const segments: RowSegment[] = adapters.map((_, i) => ({ start: i * rows, end: (i + 1) * rows, adapters: [i] }));
      return {
        run: () => lowRankLinear(x, weight, { adapters, segments }),
        baseline: () => lowRankLinear(x, weight, { adapters: adapters.slice(0, 1) }),
        owned: [weight],
      };
    },
  };
}

const shapes = [
  [1024, 576, 576],
  [1024, 1536, 576],
  [512, 2048, 2048],
] as const;

const cases = (['f32', 'bf16'] as const).flatMap((dtype) => [
  ...shapes.flatMap(([m, n, k]) =>
    [8, 16, 64].flatMap((rank) => [false, true].map((backward) => oneAdapter(m, n, k, rank, dtype, backward))),
  ),
  ...[4, 32].map((count) => manyAdapters(1024, 576, 576, 16, count, dtype)),
]);

export const suite: Suite = {
  description: 'low-rank adapters on a frozen product, one and many',
  run: (args, report) => runCases(args, report, cases),
};
