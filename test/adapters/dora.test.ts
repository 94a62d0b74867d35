import test from 'ava';
import { attach } from '#dist/adapters/index.js';
import { shiftedNorms, squaredColumnNorms, squaredRowNorms } from '#dist/adapters/shifted-norms.js';
import { tensor } from '#dist/ops/create.js';
import { add, mul, sqrt, square } from '#dist/ops/elementwise.js';
import { matmul, type PackedWeight } from '#dist/ops/linalg.js';
import { sum } from '#dist/ops/reduce.js';
import { transpose } from '#dist/ops/shape.js';
import { noGrad, scope } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';
import { relativeError, valuesOf } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';
import { noise, TinyNetwork } from '../helpers/tiny-network.js';

/** Norms in f32, relative to their spread. */
const kTolerance = 1e-5;
const rowNorms = (x: Tensor): Tensor => sqrt(sum(square(x), 1));

test.serial('norms of W + s B A without forming it are those of the formed matrix', async (t) => {
  // 700 rows: more than the sums of squares take at once.
  const [w, a, b] = [noise([700, 24], 1), noise([3, 24], 2), noise([700, 3], 3)];
  const scale = -0.7;
  const [fast, naive] = scope(() =>
    noGrad(() => [
      shiftedNorms(squaredRowNorms(w), transpose(matmul(a, transpose(w))), a, b, scale),
      rowNorms(add(w, mul(matmul(b, a), scale))),
    ]),
  ) as [Tensor, Tensor];
  t.true(relativeError(await valuesOf(fast), await valuesOf(naive)) < kTolerance);
  const columns = scope(() => noGrad(() => squaredColumnNorms(w)));
  const expected = scope(() => noGrad(() => sum(square(w), 0)));
  t.true(relativeError(await valuesOf(columns), await valuesOf(expected)) < kTolerance);
  for (const x of [w, a, b]) x.dispose();
});

test.serial('terms that cancel are summed in f64', async (t) => {
  // V = W - 0.9 W: three terms of the size of |W|² leave a hundredth of it.
  const w = noise([6, 6], 5);
  const [fast, naive] = scope(() =>
    noGrad(() => [shiftedNorms(squaredRowNorms(w), transpose(matmul(w, transpose(w))), w, eye(6), -0.9), mul(rowNorms(w), 0.1)]),
  ) as [Tensor, Tensor];
  t.true(relativeError(await valuesOf(fast), await valuesOf(naive)) < 1e-3);
  w.dispose();
});

test.serial('magnitudes start as the norms of the weight, and are the norms of the merged one', async (t) => {
  const network = new TinyNetwork();
  const weight = (): Tensor => (new Map(network.namedParameters()).get('q_proj.weight') as PackedWeight).unpack();
  const set = await attach(network, { type: 'lora', dora: true, targets: ['q_proj'], rank: 3 });
  const magnitude = new Map(set.namedParameters()).get('q_proj.lora_magnitude_vector') as Tensor;
  const normsNow = (): Promise<Float32Array> => valuesOf(scope(() => noGrad(() => rowNorms(weight()))));
  t.true(relativeError((await magnitude.data()) as Float32Array, await normsNow()) < kTolerance);
  perturb(set);
  await set.merge();
  t.true(relativeError(await normsNow(), ((await magnitude.data()) as Float32Array).map(Math.abs)) < kTolerance);
  set.dispose();
  network.dispose();
});

function eye(n: number): Tensor {
  return tensor(Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => Number(i === j))));
}
