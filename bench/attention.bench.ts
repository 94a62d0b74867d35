// Attention against the same from two matmuls and a softmax. FLOPs: 4 T S H K forward, 10 T S H K backward, half of it when causal.
// npm run bench -- attention [--only TEXT] [--threads N] [--peer PYTHON] [--json]
import type { DType, Tensor } from 'lorikeet';
import { arange, attention, expand, greaterEqual, matmul, mul, permute, reshape, softmax, where } from 'lorikeet/ops';
import { type Case, forwardBackward, leaf, random, runCases } from './cases.js';
import type { Suite } from './harness.js';

interface Sizes {
  readonly length: number;
  readonly heads: number;
  readonly keyHeads: number;
  readonly width: number;
}

/** q [1, T, H, K], k and v [1, T, G, K]: scores and weights as T x T tensors. */
function composed(q: Tensor, k: Tensor, v: Tensor, { length, heads, keyHeads, width }: Sizes): Tensor {
  const group = heads / keyHeads;
  const queries = reshape(permute(q, [0, 2, 1, 3]), [1, keyHeads, group, length, width]);
  const spread = (x: Tensor): Tensor =>
    expand(reshape(permute(x, [0, 2, 1, 3]), [1, keyHeads, 1, length, width]), [1, keyHeads, group, length, width]);
  const scores = mul(matmul(queries, permute(spread(k), [0, 1, 2, 4, 3])), 1 / Math.sqrt(width));
  const rows = reshape(arange(length), [length, 1]);
  const seen = greaterEqual(expand(rows, [length, length]), expand(reshape(arange(length), [1, length]), [length, length]));
  const weights = softmax(where(seen, scores, -1e30), -1);
  return permute(reshape(matmul(weights, spread(v)), [1, heads, length, width]), [0, 2, 1, 3]);
}

function attentionCase(sizes: Sizes, dtype: DType, backward: boolean): Case {
  const { length, heads, keyHeads, width } = sizes;
  return {
    name: `T=${length} H=${heads} G=${keyHeads} K=${width} causal ${backward ? 'forward+backward' : 'forward'}`,
    dtype,
    work: { flops: (backward ? 14 : 4) * length * length * heads * width * 0.5 },
    baseline: 'matmul, softmax, matmul',
    peer: { op: 'attention', length, heads, keyHeads, width, backward },
    prepare() {
      const make = backward ? leaf : random;
      const q = make([1, length, heads, width], dtype);
      const k = make([1, length, keyHeads, width], dtype);
      const v = make([1, length, keyHeads, width], dtype);
      const dy = random([1, length, heads, width], dtype);
      const fused = () => attention(q, k, v, { causal: true });
      const plain = () => composed(q, k, v, sizes);
      if (!backward) return { run: fused, baseline: plain };
      return { run: () => forwardBackward(fused, dy, [q, k, v]), baseline: () => forwardBackward(plain, dy, [q, k, v]) };
    },
  };
}

const sizes: readonly Sizes[] = [
  ...[256, 1024, 2048, 4096].map((length) => ({ length, heads: 9, keyHeads: 3, width: 64 })),
  { length: 1024, heads: 16, keyHeads: 16, width: 64 },
  { length: 1024, heads: 32, keyHeads: 8, width: 128 },
];

const cases = (['f32', 'bf16'] as const).flatMap((dtype) =>
  sizes.flatMap((each) => [false, true].map((backward) => attentionCase(each, dtype, backward))),
);

export const suite: Suite = { description: 'causal attention, forward and backward', run: (args, report) => runCases(args, report, cases) };
