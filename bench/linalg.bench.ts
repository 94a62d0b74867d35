// Decompositions: the randomised SVD against the same steps as single ops, batches against one matrix after the other.
// npm run bench -- linalg [--only TEXT] [--threads N] [--peer PYTHON] [--json]
import type { DType, Tensor } from 'lorikeet';
import { cholesky, qr, svd, svdLowrank, symmetricEigen } from 'lorikeet/linalg';
import { add, cast, matmul, normal, select, tensor, transpose } from 'lorikeet/ops';
import { type Case, random, runCases } from './cases.js';
import type { Suite } from './harness.js';

function lowrankCase(m: number, n: number, q: number, niter: number, dtype: DType): Case {
  return {
    name: `svdLowrank ${m}x${n} q=${q} niter=${niter}`,
    dtype,
    work: { flops: (2 * niter + 2) * 2 * m * n * q },
    baseline: 'matmul, qr, svd',
    peer: { op: 'svdLowrank', m, n, q, niter },
    prepare() {
      const x = random([m, n], dtype);
      return { run: () => svdLowrank(x, { q, niter, seed: 1 }), baseline: () => stepByStep(x, q, niter) };
    },
  };
}

/** The same algorithm out of single ops. */
function stepByStep(input: Tensor, q: number, niter: number): void {
  const x = cast(input, 'f32');
  const orthonormal = (y: Tensor): Tensor => qr(y).q;
  let basis = orthonormal(matmul(x, normal([x.shape[1] ?? 0, q], { seed: 1 })));
  for (let i = 0; i < niter; i++) basis = orthonormal(matmul(x, orthonormal(matmul(transpose(x), basis))));
  matmul(basis, svd(matmul(transpose(basis), x)).u);
}

/** FLOPs are those of the classical algorithms, so the share of the roofline is only a guide. */
function batchCase(op: string, count: number, n: number, flops: number, decompose: (x: Tensor) => unknown): Case {
  return {
    name: `${op} ${count} of ${n}x${n}`,
    dtype: 'f32',
    work: { flops: count * flops },
    baseline: 'one after the other',
    peer: { op, count, n },
    prepare() {
      const root = random([count, n, n], 'f32');
      const identity = tensor(
        Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => (i === j ? n : 0))),
        { dtype: 'f32' },
      );
      const x = add(matmul(root, transpose(root)), identity);
      const each = Array.from({ length: count }, (_, i) => select(x, 0, i));
      return { run: () => decompose(x), baseline: () => each.map(decompose) };
    },
  };
}

const cases: readonly Case[] = [
  lowrankCase(4096, 4096, 64, 4, 'f32'),
  lowrankCase(4096, 4096, 64, 4, 'bf16'),
  lowrankCase(4096, 11008, 32, 4, 'f32'),
  lowrankCase(576, 1536, 32, 4, 'f32'),
  batchCase('svd', 8, 256, 22 * 256 ** 3, svd),
  batchCase('symmetricEigen', 8, 256, 9 * 256 ** 3, symmetricEigen),
  batchCase('cholesky', 8, 512, 512 ** 3 / 3, cholesky),
];

export const suite: Suite = {
  description: 'randomised SVD and batches of dense decompositions',
  run: (args, report) => runCases(args, report, cases),
};
