import { InvalidArgumentError } from '../errors.js';
import { op } from '../native.js';
import type { Tensor } from '../tensor.js';
import { likeParameter, Optimizer, type Slot, type StateSpec, type StepOptions } from './optimizer.js';
import { checkRange, type ParameterGroup } from './parameter-groups.js';

const sgdStepOp = op('sgdStep');

export interface SGDSettings {
  /** Default 1e-3. */
  learningRate: number;
  /** Default 0: no momentum, no state. */
  momentum: number;
  /** Share of the gradient that does not enter the momentum. Default 0. */
  dampening: number;
  /** Added to the gradient, not decoupled. Default 0. */
  weightDecay: number;
  /** Needs momentum and no dampening. Default false. */
  nesterov: boolean;
}

export type SGDOptions = Partial<SGDSettings>;

/** Stochastic gradient descent with PyTorch's order of operations, all parameters of a group in one pass. */
export class SGD extends Optimizer<SGDSettings> {
  readonly kind = 'sgd';

  constructor(parameters: Iterable<Tensor> | Iterable<ParameterGroup<SGDSettings>>, options: SGDOptions = {}) {
    const { learningRate = 1e-3, momentum = 0, dampening = 0, weightDecay = 0, nesterov = false } = options;
    super('SGD', parameters, { learningRate, momentum, dampening, weightDecay, nesterov }, checkSettings);
  }

  protected statesOf(parameter: Tensor, settings: SGDSettings): readonly StateSpec[] {
    return settings.momentum === 0 ? [] : likeParameter(parameter, ['momentum']);
  }

  protected update(slots: readonly Slot[], settings: SGDSettings, { clipScale, rateFactor = 1 }: StepOptions): void {
    sgdStepOp(
      slots.map((slot) => slot.parameter.handle),
      slots.flatMap((slot) => slot.states.map((state) => state.handle)),
      slots.map((slot) => slot.step),
      settings.learningRate * rateFactor,
      settings.momentum,
      settings.dampening,
      settings.weightDecay,
      settings.nesterov,
      clipScale?.handle,
    );
  }
}

function checkSettings(settings: SGDSettings, group: string): void {
  const above = Number.POSITIVE_INFINITY;
  checkRange('SGD', group, 'learningRate', settings.learningRate, 0, above);
  checkRange('SGD', group, 'momentum', settings.momentum, 0, above);
  checkRange('SGD', group, 'dampening', settings.dampening, 0, above);
  checkRange('SGD', group, 'weightDecay', settings.weightDecay, 0, above);
  if (settings.nesterov && (settings.momentum === 0 || settings.dampening !== 0)) {
    throw new InvalidArgumentError(
      `SGD: nesterov of group ${group} needs momentum and no dampening; got momentum ${settings.momentum} and dampening ${settings.dampening}`,
    );
  }
}
