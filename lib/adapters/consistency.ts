import { add, mul, sub } from '../ops/elementwise.js';
import { sum } from '../ops/reduce.js';
import { logSoftmax, softmax } from '../ops/softmax.js';
import { noGrad } from '../scope.js';
import type { Tensor } from '../tensor.js';

/** A forward pass in training: its loss summed over the rows that count, and their logits [.., L]. Each call draws anew. */
export type TrainingPass = () => { readonly loss: Tensor; readonly logits: Tensor };

/**
 * (KL(p2 ‖ p1) + KL(p1 ‖ p2)) / 2 of the predictions p = softmax(z) of two logits [.., L], summed over rows, where each divergence moves
 * the logits of its second argument alone: the gradient of z1 is (p1 - p2) / 2, that of z2 the opposite. A scalar.
 */
export function symmetricKl(z1: Tensor, z2: Tensor): Tensor {
  const { gap, value } = noGrad(() => {
    const apart = sub(softmax(z1), softmax(z2));
    return { gap: apart, value: mul(sum(mul(apart, sub(logSoftmax(z1), logSoftmax(z2)))), 0.5) };
  });
  // Linear in the logits, with the gradient wanted; its own value is taken out again.
  const carrier = mul(sum(mul(gap, sub(z1, z2))), 0.5);
  return add(value, sub(carrier, carrier.detach()));
}

/** The loss of two passes: loss1 + ce2 * loss2 + kl * symmetricKl(z1, z2), summed over rows. */
export function consistencyLoss({ kl = 1, ce2 = 0 }: { readonly kl?: number; readonly ce2?: number }): (pass: TrainingPass) => Tensor {
  return (pass) => {
    const [first, second] = [pass(), pass()];
    const divergence = kl === 0 ? [] : [mul(symmetricKl(first.logits, second.logits), kl)];
    const again = ce2 === 0 ? [] : [mul(second.loss, ce2)];
    return [...again, ...divergence].reduce((total, term) => add(total, term), first.loss);
  };
}
