// Norms over the last dimension. Bytes: forward reads x and writes y; forward and backward together also read x and dy and write dx.
// npm run bench -- norm [--only TEXT] [--threads N] [--peer PYTHON] [--json]
import type { DType, Tensor } from 'lorikeet';
import { add, layerNorm, mean, mul, rmsNorm, rsqrt, square, sub } from 'lorikeet/ops';
import { type Case, forwardBackward, leaf, random, runCases } from './cases.js';
import type { Suite } from './harness.js';

const shapes = [
  [1024, 576],
  [1024, 4096],
  [4096, 4096],
] as const;

const composedRms = (x: Tensor, weight: Tensor): Tensor => mul(mul(x, rsqrt(add(mean(square(x), -1, { keepDim: true }), 1e-6))), weight);

function composedLayer(x: Tensor, weight: Tensor): Tensor {
  const centred = sub(x, mean(x, -1, { keepDim: true }));
  return composedRms(centred, weight);
}

const norms = {
  rmsNorm: { own: (x: Tensor, weight: Tensor) => rmsNorm(x, weight), composed: composedRms },
  layerNorm: { own: (x: Tensor, weight: Tensor) => layerNorm(x, weight), composed: composedLayer },
} as const;

function normCase(name: keyof typeof norms, rows: number, width: number, dtype: DType, backward: boolean): Case {
  const element = dtype === 'bf16' ? 2 : 4;
  const { own, composed } = norms[name];
  return {
    name: `${name} ${rows}x${width} ${backward ? 'forward+backward' : 'forward'}`,
    dtype,
    work: { bytes: rows * width * element * (backward ? 5 : 2) },
    baseline: 'composed of elementwise ops',
    peer: { op: name, rows, width, backward },
    prepare() {
      const weight = random([width], dtype, 0.1);
      const x = backward ? leaf([rows, width], dtype) : random([rows, width], dtype);
      const dy = random([rows, width], dtype);
      const of = (norm: typeof own) => () => (backward ? forwardBackward(() => norm(x, weight), dy, [x]) : norm(x, weight));
      return { run: of(own), baseline: of(composed) };
    },
  };
}

const cases = (['rmsNorm', 'layerNorm'] as const).flatMap((name) =>
  (['f32', 'bf16'] as const).flatMap((dtype) =>
    shapes.flatMap(([rows, width]) => [false, true].map((backward) => normCase(name, rows, width, dtype, backward))),
  ),
);

export const suite: Suite = {
  description: 'RMSNorm and LayerNorm, forward and backward',
  run: (args, report) => runCases(args, report, cases),
};
