import { op } from '../native.js';
import type { Tensor } from '../tensor.js';
import { likeParameter, Optimizer, type Slot, type StateSpec, type StepOptions } from './optimizer.js';
import { checkRange, type ParameterGroup } from './parameter-groups.js';

const adamwStepOp = op('adamwStep');

export interface AdamWSettings {
  /** Default 1e-3. */
  learningRate: number;
  /** Decay of the running means of gradient and squared gradient. Default [0.9, 0.999]. */
  betas: readonly [number, number];
  /** Default 1e-8. */
  eps: number;
  /** Decoupled from the gradient. Default 0.01. */
  weightDecay: number;
}

export type AdamWOptions = Partial<AdamWSettings>;

/**
 * AdamW ("Decoupled Weight Decay Regularization"), with PyTorch's order of operations, all parameters of a group in one pass. Settings can be given for
 * each group: learning rates for LoRA+, no decay for norms.
 */
export class AdamW extends Optimizer<AdamWSettings> {
  readonly kind = 'adamw';

  constructor(parameters: Iterable<Tensor> | Iterable<ParameterGroup<AdamWSettings>>, options: AdamWOptions = {}) {
    const { learningRate = 1e-3, betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01 } = options;
    super('AdamW', parameters, { learningRate, betas, eps, weightDecay }, (settings, group) =>
      checkAdamWSettings('AdamW', settings, group),
    );
  }

  protected statesOf(parameter: Tensor): readonly StateSpec[] {
    return likeParameter(parameter, ['firstMoment', 'secondMoment']);
  }

  protected update(slots: readonly Slot[], settings: AdamWSettings, options: StepOptions): void {
    stepAdamW(slots, settings, options);
  }
}

/** One AdamW update of parameters whose first two states are the moments in full precision. */
export function stepAdamW(slots: readonly Slot[], settings: AdamWSettings, { clipScale, rateFactor = 1 }: StepOptions): void {
  adamwStepOp(
    slots.map((slot) => slot.parameter.handle),
    slots.map((slot) => (slot.states[0] as Tensor).handle),
    slots.map((slot) => (slot.states[1] as Tensor).handle),
    slots.map((slot) => slot.step),
    settings.learningRate * rateFactor,
    settings.betas[0],
    settings.betas[1],
    settings.eps,
    settings.weightDecay,
    clipScale?.handle,
  );
}

/** Throws `InvalidArgumentError`, which begins with `op`, for a setting out of its range. */
export function checkAdamWSettings(op: string, settings: AdamWSettings, group: string): void {
  const above = Number.POSITIVE_INFINITY;
  checkRange(op, group, 'learningRate', settings.learningRate, 0, above);
  checkRange(op, group, 'betas[0]', settings.betas[0], 0, 1);
  checkRange(op, group, 'betas[1]', settings.betas[1], 0, 1);
  checkRange(op, group, 'eps', settings.eps, 0, above);
  checkRange(op, group, 'weightDecay', settings.weightDecay, 0, above);
}
