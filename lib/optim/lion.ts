import { op } from '../native.js';
import type { Tensor } from '../tensor.js';
import { likeParameter, Optimizer, type Slot, type StateSpec, type StepOptions } from './optimizer.js';
import { checkRange, type ParameterGroup } from './parameter-groups.js';

const lionStepOp = op('lionStep');

export interface LionSettings {
  /** Default 1e-4: a third to a tenth of what AdamW takes. */
  learningRate: number;
  /** Weights of the momentum in the direction of the update, and of its decay. Default [0.9, 0.99]. */
  betas: readonly [number, number];
  /** Decoupled from the gradient. Default 0; three to ten times that of AdamW where it is used. */
  weightDecay: number;
}

export type LionOptions = Partial<LionSettings>;

/**
 * Lion ("Symbolic Discovery of Optimization Algorithms"): each element moves by the learning rate, in the direction of the sign of momentum and gradient. One
 * state a parameter, half of AdamW's.
 */
export class Lion extends Optimizer<LionSettings> {
  readonly kind = 'lion';

  constructor(parameters: Iterable<Tensor> | Iterable<ParameterGroup<LionSettings>>, options: LionOptions = {}) {
    const { learningRate = 1e-4, betas = [0.9, 0.99], weightDecay = 0 } = options;
    super('Lion', parameters, { learningRate, betas, weightDecay }, checkSettings);
  }

  protected statesOf(parameter: Tensor): readonly StateSpec[] {
    return likeParameter(parameter, ['momentum']);
  }

  protected update(slots: readonly Slot[], settings: LionSettings, { clipScale, rateFactor = 1 }: StepOptions): void {
    lionStepOp(
      slots.map((slot) => slot.parameter.handle),
      slots.map((slot) => (slot.states[0] as Tensor).handle),
      slots.map((slot) => slot.step),
      settings.learningRate * rateFactor,
      settings.betas[0],
      settings.betas[1],
      settings.weightDecay,
      clipScale?.handle,
    );
  }
}

function checkSettings(settings: LionSettings, group: string): void {
  const above = Number.POSITIVE_INFINITY;
  checkRange('Lion', group, 'learningRate', settings.learningRate, 0, above);
  checkRange('Lion', group, 'betas[0]', settings.betas[0], 0, 1);
  checkRange('Lion', group, 'betas[1]', settings.betas[1], 0, 1);
  checkRange('Lion', group, 'weightDecay', settings.weightDecay, 0, above);
}
