// The loss of two passes: the divergence and its gradients against autograd through log-softmax.
import test from 'ava';
import { consistencyLoss, scope, symmetricKl, type Tensor } from 'lorikeet';
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
