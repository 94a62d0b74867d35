import { ConfigError } from '../errors.js';
import { type HiddenState, HiddenStates } from '../nn/hidden-states.js';
import { add, cast, div, mul, square, sub } from '../ops/elementwise.js';
import { sum } from '../ops/reduce.js';
import { logSoftmax, softmax } from '../ops/softmax.js';
import { noGrad, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { withoutPadding } from './token-mask.js';

/**
 * A forward pass in training: its loss summed over the rows that count, and their logits [.., L]. Each call draws anew. Where it is given `hidden`, its model is to
 * fill that: `forward(rows, { training: true, hidden })`.
 */
export type TrainingPass = (hidden?: HiddenStates) => { readonly loss: Tensor; readonly logits: Tensor };

/** Weights of what a second pass adds to the loss. */
export interface ConsistencyWeights {
  /** Of {@link symmetricKl} of both predictions. Default 1. */
  readonly kl?: number | undefined;
  /** Of the loss of the second pass. Default 0. */
  readonly ce2?: number | undefined;
  /** Of {@link hiddenDistance} of both passes. Default 0. */
  readonly deep?: number | undefined;
}

/** How many blocks {@link hiddenDistance} compares at most: the first ones. */
export const kComparedBlocks = 6;

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

/**
 * The squared distance of what two passes leave behind their first six blocks: of each row the mean over its tokens and the width, summed over rows and these
 * blocks, divided by the number of all blocks. It moves both passes. A scalar. Throws `ConfigError` where a pass held nothing, or the two another number of blocks.
 */
export function hiddenDistance(first: HiddenStates, second: HiddenStates): Tensor {
  const [one, two] = [first.states, second.states];
  if (one.length === 0 || one.length !== two.length)
    throw new ConfigError(
      `hiddenDistance: the passes must have the same blocks; got ${one.length} and ${two.length}, expected passes whose model was given "hidden"`,
    );
  const blocks = one.slice(0, kComparedBlocks).map((state, i) => distance(state, two[i] as HiddenState));
  return div(
    blocks.reduce((total, block) => add(total, block)),
    one.length,
  );
}

/** Of one block: the mean square of the difference of each row, summed over rows. */
function distance({ hidden, keyLengths }: HiddenState, other: HiddenState): Tensor {
  return scope(() => {
    const wide = hidden.dtype === 'f64' ? 'f64' : 'f32';
    const squares = square(withoutPadding(sub(cast(hidden, wide), cast(other.hidden, wide)), keyLengths));
    const [, time = 1, width = 1] = hidden.shape;
    const perRow = sum(squares, [1, 2]);
    return sum(keyLengths === undefined ? div(perRow, time * width) : div(perRow, mul(cast(keyLengths, wide), width)));
  });
}

/** The loss of two passes: loss1 + ce2 * loss2 + kl * symmetricKl(z1, z2) + deep * hiddenDistance, summed over rows. */
export function consistencyLoss({ kl = 1, ce2 = 0, deep = 0 }: ConsistencyWeights): (pass: TrainingPass) => Tensor {
  return (pass) => {
    const hidden = deep === 0 ? [] : [new HiddenStates(), new HiddenStates()];
    try {
      const [first, second] = [pass(hidden[0]), pass(hidden[1])];
      const terms = [first.loss];
      if (ce2 !== 0) terms.push(mul(second.loss, ce2));
      if (kl !== 0) terms.push(mul(symmetricKl(first.logits, second.logits), kl));
      if (deep !== 0) terms.push(mul(hiddenDistance(hidden[0] as HiddenStates, hidden[1] as HiddenStates), deep));
      return terms.reduce((total, term) => add(total, term));
    } finally {
      for (const states of hidden) states.dispose();
    }
  };
}
