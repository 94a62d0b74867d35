import { op } from '../native.js';
import { Tensor } from '../tensor.js';
import { cast, div, notEqual } from './elementwise.js';
import type { PackedWeight } from './linalg.js';
import { sum } from './reduce.js';

const crossEntropyOp = op('crossEntropy');
const logitsCrossEntropyOp = op('logitsCrossEntropy');

/** `mean` over the targets that are not ignored, `sum`, or `none`: one loss for each target. */
export type Reduction = 'mean' | 'sum' | 'none';

export interface LossOptions {
  /** Targets with this value do not count. Default −100. */
  readonly ignoreIndex?: number;
  /** Default `mean`. Without a single counted target the mean is NaN. */
  readonly reduction?: Reduction;
  /** Factor of the logits. Default 1. */
  readonly logitScale?: number;
}

export interface CrossEntropyOptions extends LossOptions {
  /** [V], added to the logits before the scale. */
  readonly bias?: Tensor;
}

/** Applies a reduction to losses [..]; ignored targets hold zeros there. */
function reduced(losses: Tensor, targets: Tensor, ignoreIndex: number, reduction: Reduction): Tensor {
  if (reduction === 'none') return losses;
  const steps: Tensor[] = [losses];
  const note = (x: Tensor): Tensor => {
    steps.push(x);
    return x;
  };
  try {
    if (reduction === 'sum') return sum(losses);
    const counted = note(notEqual(targets, ignoreIndex));
    const count = note(sum(note(cast(counted, losses.dtype))));
    return div(note(sum(losses)), count);
  } finally {
    for (const x of steps) x.dispose();
  }
}

/**
 * Cross-entropy of targets [..] (i64 or i32) from hidden states [.., D] and the head's weight [V, D], packed (frozen) or dense (may be trained). Works
 * through chunks of rows, so that logits are never stored; ignored rows cost nothing. f32 inside and in the result (f64 for f64). With a frozen head the
 * gradient of `hidden` is made in the forward pass. A target outside the vocabulary fails when the work runs. A scalar, or [..] with reduction `none`.
 */
export function crossEntropy(hidden: Tensor, head: PackedWeight | Tensor, targets: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const { ignoreIndex = -100, reduction = 'mean', logitScale = 1, bias } = options;
  const losses = new Tensor(crossEntropyOp(hidden.handle, head.handle, bias?.handle, targets.handle, ignoreIndex, logitScale));
  return reduced(losses, targets, ignoreIndex, reduction);
}

/** Cross-entropy of targets [..] (i64 or i32) from logits [.., V]; like {@link crossEntropy} otherwise. Backward keeps the logits. */
export function logitsCrossEntropy(logits: Tensor, targets: Tensor, options: LossOptions = {}): Tensor {
  const { ignoreIndex = -100, reduction = 'mean', logitScale = 1 } = options;
  const losses = new Tensor(logitsCrossEntropyOp(logits.handle, targets.handle, ignoreIndex, logitScale));
  return reduced(losses, targets, ignoreIndex, reduction);
}
