// The pieces of a block between the products: gated activation, rotary positions, residual. Bytes: every operand once.
// npm run bench -- elementwise [--only TEXT] [--threads N] [--peer PYTHON] [--json]
import type { DType } from 'lorikeet';
import { add, arange, cast, clone, mul, reshape, rope, silu, swiGlu, uniform } from 'lorikeet/ops';
import { type Case, forwardBackward, leaf, random, runCases } from './cases.js';
import type { Suite } from './harness.js';

const size = (dtype: DType): number => (dtype === 'bf16' ? 2 : 4);

function swiGluCase(rows: number, width: number, dtype: DType, backward: boolean): Case {
  return {
    name: `swiGlu ${rows}x${width} ${backward ? 'forward+backward' : 'forward'}`,
    dtype,
    work: { bytes: rows * width * size(dtype) * (backward ? 8 : 3) },
    baseline: 'mul(silu(gate), up)',
    peer: { op: 'swiGlu', rows, width, backward },
    prepare() {
      const make = backward ? leaf : random;
      const [gate, up, dy] = [make([rows, width], dtype), make([rows, width], dtype), random([rows, width], dtype)];
      const composed = () => mul(silu(gate), up);
      if (!backward) return { run: () => swiGlu(gate, up), baseline: composed };
      return {
        run: () => forwardBackward(() => swiGlu(gate, up), dy, [gate, up]),
        baseline: () => forwardBackward(composed, dy, [gate, up]),
      };
    },
  };
}

function ropeCase(length: number, heads: number, width: number, dtype: DType): Case {
  return {
    name: `rope ${length}x${heads}x${width}`,
    dtype,
    work: { bytes: length * heads * width * size(dtype) * 2 },
    baseline: 'clone (a copy)',
    prepare() {
      const x = random([1, length, heads, width], dtype);
      const table = () => uniform([length, width / 2], { low: -1, high: 1, seed: 7 });
      const [cos, sin] = [table(), table()];
      const positions = reshape(cast(arange(length), 'i64'), [1, length]);
      return { run: () => rope(x, cos, sin, positions), baseline: () => clone(x) };
    },
  };
}

function addCase(rows: number, width: number, dtype: DType): Case {
  return {
    name: `residual add ${rows}x${width}`,
    dtype,
    work: { bytes: rows * width * size(dtype) * 3 },
    baseline: 'clone (a copy)',
    peer: { op: 'add', rows, width },
    prepare() {
      const [a, b] = [random([rows, width], dtype), random([rows, width], dtype)];
      return { run: () => add(a, b), baseline: () => clone(a) };
    },
  };
}

const cases = (['f32', 'bf16'] as const).flatMap((dtype) => [
  ...[false, true].flatMap((backward) => [swiGluCase(1024, 1536, dtype, backward), swiGluCase(1024, 11008, dtype, backward)]),
  ropeCase(1024, 9, 64, dtype),
  ropeCase(4096, 32, 128, dtype),
  addCase(1024, 576, dtype),
  addCase(4096, 4096, dtype),
]);

export const suite: Suite = {
  description: 'gated activation, rotary positions, residual add',
  run: (args, report) => runCases(args, report, cases),
};
