// The chunked loss with a frozen head, forward and backward, against logits and their loss. FLOPs: 4 T D V.
// npm run bench -- cross-entropy [--only TEXT] [--threads N] [--peer PYTHON] [--json]
import type { DType, Tensor } from 'lorikeet';
import { crossEntropy, linear, logitsCrossEntropy, packWeight, tensor } from 'lorikeet/ops';
import { type Case, forwardBackward, leaf, random, runCases } from './cases.js';
import type { Suite } from './harness.js';

function lossCase(rows: number, width: number, vocabulary: number, dtype: DType): Case {
  return {
    name: `T=${rows} D=${width} V=${vocabulary} forward+backward`,
    dtype,
    work: { flops: 4 * rows * width * vocabulary },
    baseline: 'linear, logitsCrossEntropy',
    peer: { op: 'crossEntropy', rows, width, vocabulary },
    prepare() {
      const head = packWeight(random([vocabulary, width], dtype, 0.05));
      const hidden = leaf([rows, width], dtype);
      const targets = tensor(
        Array.from({ length: rows }, (_, i) => (i * 7919 + 13) % vocabulary),
        { dtype: 'i64' },
      );
      const step = (loss: () => Tensor) => () => forwardBackward(loss, undefined, [hidden]);
      return {
        run: step(() => crossEntropy(hidden, head, targets)),
        baseline: step(() => logitsCrossEntropy(linear(hidden, head), targets)),
        owned: [head],
      };
    },
  };
}

const cases = (['f32', 'bf16'] as const).flatMap((dtype) => [
  lossCase(512, 576, 49152, dtype),
  lossCase(1024, 576, 49152, dtype),
  lossCase(256, 896, 151936, dtype),
]);

export const suite: Suite = {
  description: 'chunked cross-entropy with a frozen head',
  run: (args, report) => runCases(args, report, cases),
};
