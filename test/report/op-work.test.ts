import test from 'ava';
import { type DType, type ProfiledOp, profile, scope, type Tensor } from 'lorikeet';
import {
  attention,
  concat,
  crossEntropy,
  linear,
  lowRankLinear,
  lowRankLinears,
  matmul,
  normal,
  packWeight,
  sum,
  tensor,
} from 'lorikeet/ops';
import { opWork } from '#dist/report/op-work.js';

async function workOf(name: string, run: () => unknown) {
  const { ops } = await scope(() => profile(() => void run()));
  const found = ops.filter((op) => op.name === name).map(opWork);
  return {
    flops: found.reduce((sum, work) => sum + work.flops, 0),
    adapterFlops: found.reduce((sum, work) => sum + work.adapterFlops, 0),
  };
}

const random = (shape: readonly number[], dtype: DType = 'f32') => normal(shape, { dtype, seed: 1 });

test.serial('counts a frozen product and the adapter on it apart, forward and backward', async (t) => {
  const [m, n, k, r] = [40, 64, 32, 4];
  const weight = packWeight(random([n, k]));
  const bare = await workOf('linear', () => linear(random([m, k]), weight));
  t.deepEqual(bare, { flops: 2 * m * n * k, adapterFlops: 0 });
  const run = () => {
    const x = random([m, k]).setRequiresGrad(true);
    const [a, b] = [random([r, k]).setRequiresGrad(true), random([n, r]).setRequiresGrad(true)];
    lowRankLinear(x, weight, { adapters: [{ a, b, scale: 2 }] }).backward(random([m, n]));
  };
  const both = await workOf('lowRankLinear', run);
  t.deepEqual(both, { flops: 4 * m * n * k, adapterFlops: 4 * m * r * (n + k) });
  t.is((await workOf('sumOverRows', run)).adapterFlops, 2 * m * r * (n + k));
  weight.dispose();
});

test.serial('counts layers that run as one op as it counts each alone', async (t) => {
  const [m, k, r] = [40, 32, 4];
  const widths = [64, 16, 24];
  const weights = widths.map((n) => packWeight(random([n, k])));
  const run = () => {
    const x = random([m, k]).setRequiresGrad(true);
    const layers = weights.map((weight, i) => {
      const n = widths[i] ?? 0;
      const adapter = { a: random([r, k]).setRequiresGrad(true), b: random([n, r]).setRequiresGrad(true), scale: 2 };
      return { weight, bias: random([n]), adapters: i === 1 ? [] : [adapter] };
    });
    const [q, key, v] = lowRankLinears(x, layers) as [Tensor, Tensor, Tensor];
    sum(concat([q, key, v], 1)).backward();
  };
  const outputs = 64 + 16 + 24;
  const adapterFlops = 4 * m * r * (64 + 24 + 2 * k);
  t.deepEqual(await workOf('lowRankLinears', run), { flops: 4 * m * outputs * k, adapterFlops });
  t.is((await workOf('sumOverRows', run)).adapterFlops, adapterFlops / 2);
  for (const weight of weights) weight.dispose();
});

test.serial('counts attention, causal where queries and keys are as many', async (t) => {
  const [length, heads, width] = [16, 4, 8];
  const q = () => random([1, length, heads, width]).setRequiresGrad(true);
  const run = () => attention(q(), random([1, length, 2, width]), random([1, length, 2, width]), { causal: true }).backward(q());
  t.is((await workOf('attention', run)).flops, 2 * length * length * heads * width);
  t.is((await workOf('attention backward', run)).flops, 5 * length * length * heads * width);
});

test.serial('counts matmul and the loss with its head', async (t) => {
  t.is((await workOf('matmul', () => matmul(random([2, 3, 5]), random([2, 5, 7])))).flops, 2 * 2 * 3 * 5 * 7);
  const [rows, width, vocabulary] = [6, 32, 64];
  const head = packWeight(random([vocabulary, width]));
  const targets = () => tensor([0, 1, 2, 3, 4, 5], { dtype: 'i64' });
  const { flops } = await workOf('crossEntropy', () => crossEntropy(random([rows, width]).setRequiresGrad(true), head, targets()));
  head.dispose();
  t.is(flops, 4 * rows * width * vocabulary);
});

test('counts the bytes of every operand once and takes the precision of the first', (t) => {
  const op: ProfiledOp = {
    name: 'add',
    backward: false,
    start: 0,
    ms: 1,
    inputs: [{ dtype: 'bf16', shape: [3, 4] }, undefined, { dtype: 'i64', shape: [] }],
    outputs: [{ dtype: 'f32', shape: [12] }],
  };
  t.deepEqual(opWork(op), { flops: 0, adapterFlops: 0, bytes: 24 + 8 + 48, dtype: 'bf16' });
});
