// The loss of two passes: the divergence and its gradients against autograd through log-softmax.
import test from 'ava';
import { consistencyLoss, hiddenDistance, scope, symmetricKl, type Tensor } from 'lorikeet';
import { HiddenStates } from 'lorikeet/nn';
import { add, logSoftmax, mul, normal, softmax, sub, sum, tensor } from 'lorikeet/ops';
import { worstError } from '../helpers/values.js';

const numbers = (x: Tensor): Float64Array => Float64Array.from(x.dataSync() as ArrayLike<number>);
const logits = (seed: number): Tensor =>
  mul(normal([5, 7], { dtype: 'f64', seed }), 3)
    .detach()
    .setRequiresGrad(true);

/** KL(p ‖ q) of the predictions of two logits, summed over rows, where the first is fixed. */
const divergence = (p: Tensor, q: Tensor): Tensor => sum(mul(softmax(p.detach()), sub(logSoftmax(p.detach()), logSoftmax(q))));

function gradientsOf(z1: Tensor, z2: Tensor, loss: (z1: Tensor, z2: Tensor) => Tensor): [number, Float64Array, Float64Array] {
  return scope(() => {
    const value = loss(z1, z2);
    value.backward();
    return [numbers(value)[0] as number, numbers(z1.grad as Tensor), numbers(z2.grad as Tensor)];
  });
}

test('the divergence and both gradients are those of autograd of the composed loss', (t) => {
  const [value, first, second] = gradientsOf(logits(1), logits(2), symmetricKl);
  const composed = gradientsOf(logits(1), logits(2), (z1, z2) => mul(add(divergence(z2, z1), divergence(z1, z2)), 0.5));
  t.true(value > 1);
  t.true(Math.abs(value - composed[0]) < 1e-12);
  t.true(worstError(first, composed[1]) < 1e-12);
  t.true(worstError(second, composed[2]) < 1e-12);
});

test('equal logits have no divergence and no gradient', (t) => {
  const [value, first, second] = gradientsOf(logits(1), logits(1), symmetricKl);
  t.is(value, 0);
  t.true([...first, ...second].every((gradient) => gradient === 0));
});

test('the loss has both passes, each drawn anew, with their weights', (t) => {
  const passes = [
    { loss: tensor([2], { dtype: 'f64' }), logits: logits(1) },
    { loss: tensor([5], { dtype: 'f64' }), logits: logits(2) },
  ];
  const lossOf = (weights: { kl?: number; ce2?: number }): number => {
    const left = [...passes];
    const value = numbers(consistencyLoss(weights)(() => left.shift() as (typeof passes)[0]))[0] as number;
    t.is(left.length, 0);
    return value;
  };
  const kl = numbers(symmetricKl(logits(1), logits(2)))[0] as number;
  t.true(Math.abs(lossOf({}) - (2 + kl)) < 1e-12);
  t.true(Math.abs(lossOf({ kl: 0.5, ce2: 3 }) - (2 + 15 + kl / 2)) < 1e-12);
  t.is(lossOf({ kl: 0, ce2: 1 }), 7);
});

/** The streams of a pass of 8 blocks, [2, 3, 5], of rows with 3 and 2 tokens where they are ragged. */
function streams(seed: number, ragged: boolean): { states: HiddenStates; leaves: Tensor[] } {
  const states = new HiddenStates();
  const leaves = Array.from({ length: 8 }, (_, block) =>
    normal([2, 3, 5], { dtype: 'f64', seed: seed + block })
      .detach()
      .setRequiresGrad(true),
  );
  for (const leaf of leaves) states.take(leaf, ragged ? tensor(BigInt64Array.from([3n, 2n])) : undefined);
  return { states, leaves };
}

for (const ragged of [false, true]) {
  test(`the distance of hidden states is that of tokens in the first six blocks${ragged ? ', of rows of unequal length' : ''}`, (t) => {
    const [first, second] = [streams(1, ragged), streams(50, ragged)];
    const got = scope(() => {
      const value = hiddenDistance(first.states, second.states);
      value.backward();
      return numbers(value)[0] as number;
    });
    let expected = 0;
    for (let block = 0; block < 6; block++) {
      const [a, b] = [first, second].map(({ leaves }) => numbers(leaves[block] as Tensor)) as [Float64Array, Float64Array];
      const gradient = numbers(first.leaves[block]?.grad as Tensor);
      const opposite = numbers(second.leaves[block]?.grad as Tensor);
      for (const [i, value] of a.entries()) {
        const [row, token] = [Math.floor(i / 15), Math.floor(i / 5) % 3];
        const tokens = ragged && row === 1 ? 2 : 3;
        const gap = token < tokens ? value - (b[i] as number) : 0;
        expected += gap ** 2 / (tokens * 5 * 8);
        t.true(Math.abs((gradient[i] as number) - (2 * gap) / (tokens * 5 * 8)) < 1e-15);
        t.is(opposite[i], 0 - (gradient[i] as number));
      }
    }
    t.true(expected > 1);
    t.true(Math.abs(got - expected) < 1e-12);
    t.true([6, 7].every((block) => (first.leaves[block]?.grad ?? null) === null));
  });
}

test('a loss that weighs hidden states hands each pass a place for them, and releases what it held', (t) => {
  const held: HiddenStates[] = [];
  const one = streams(1, false);
  const pass = (hidden?: HiddenStates): { loss: Tensor; logits: Tensor } => {
    for (const leaf of one.leaves) hidden?.take(held.length === 0 ? leaf : mul(leaf, 2), undefined);
    if (hidden !== undefined) held.push(hidden);
    return { loss: tensor([2], { dtype: 'f64' }), logits: logits(1) };
  };
  const value = scope(() => numbers(consistencyLoss({ deep: 0.5 })(pass))[0] as number);
  t.is(held.length, 2);
  t.true(held.every(({ states }) => states.length === 0));
  const squares = one.leaves.slice(0, 6).reduce((total, leaf) => total + numbers(leaf).reduce((sum, x) => sum + x * x, 0), 0);
  t.true(Math.abs(value - (2 + (0.5 * squares) / (15 * 8))) < 1e-12);
  const numbersOfBlocks = (count: number): { states: HiddenStates } => {
    const states = new HiddenStates();
    for (const leaf of one.leaves.slice(0, count)) states.take(leaf, undefined);
    return { states };
  };
  t.throws(() => hiddenDistance(numbersOfBlocks(2).states, numbersOfBlocks(3).states), {
    code: 'config',
    message: /hiddenDistance: the passes must have the same blocks; got 2 and 3/,
  });
  t.throws(() => consistencyLoss({ deep: 1 })(() => ({ loss: tensor([2], { dtype: 'f64' }), logits: logits(1) })), {
    code: 'config',
    message: /got 0 and 0, expected passes whose model was given "hidden"/,
  });
});
