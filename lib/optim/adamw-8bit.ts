import { op } from '../native.js';
import { Tensor } from '../tensor.js';
import { type AdamWOptions, type AdamWSettings, checkAdamWSettings, stepAdamW } from './adamw.js';
import { likeParameter, Optimizer, type Slot, type StateSpec, type StepOptions } from './optimizer.js';
import type { ParameterGroup } from './parameter-groups.js';

const adamw8bitStepOp = op('adamw8bitStep');
const dynamicMapOp = op('dynamicMap');

/** Elements that share a scale. */
const kBlock = 256;

/** Tensors with fewer elements keep their states in full precision. */
const kSmallest = 4096;

export type AdamW8bitOptions = AdamWOptions;

/**
 * AdamW with its moments in 8 bits ("8-bit Optimizers via Block-wise Quantization"): a byte an element by dynamic tree quantisation and one f32 scale for each
 * 256 elements, about 2 bytes a parameter where AdamW has 8. As in bitsandbytes, tensors under 4096 elements keep f32 moments; so do those of f64.
 */
export class AdamW8bit extends Optimizer<AdamWSettings> {
  readonly kind = 'adamw-8bit';

  constructor(parameters: Iterable<Tensor> | Iterable<ParameterGroup<AdamWSettings>>, options: AdamW8bitOptions = {}) {
    const { learningRate = 1e-3, betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01 } = options;
    super('AdamW8bit', parameters, { learningRate, betas, eps, weightDecay }, (settings, group) =>
      checkAdamWSettings('AdamW8bit', settings, group),
    );
  }

  protected statesOf(parameter: Tensor): readonly StateSpec[] {
    if (!isPacked(parameter)) return likeParameter(parameter, ['firstMoment', 'secondMoment']);
    const bytes = { shape: parameter.shape, dtype: 'u8' } as const;
    const scales = { shape: [Math.ceil(parameter.size / kBlock)], dtype: 'f32' } as const;
    return [
      { name: 'firstMoment', ...bytes },
      { name: 'secondMoment', ...bytes },
      { name: 'firstScale', ...scales },
      { name: 'secondScale', ...scales },
    ];
  }

  protected update(slots: readonly Slot[], settings: AdamWSettings, options: StepOptions): void {
    const whole = slots.filter(({ parameter }) => !isPacked(parameter));
    const packed = slots.filter(({ parameter }) => isPacked(parameter));
    if (whole.length > 0) stepAdamW(whole, settings, options);
    if (packed.length > 0) stepPacked(packed, settings, options);
  }
}

/** The 256 values that a byte of a moment stands for, rising: of the first moment `signed`, of the second not. A tensor [256] of f32. */
export function dynamicMap(signed: boolean): Tensor {
  return new Tensor(dynamicMapOp(signed));
}

const isPacked = (parameter: Tensor): boolean => parameter.size >= kSmallest && parameter.dtype !== 'f64';

function stepPacked(slots: readonly Slot[], settings: AdamWSettings, { clipScale, rateFactor = 1 }: StepOptions): void {
  const states = (index: number) => slots.map((slot) => (slot.states[index] as Tensor).handle);
  adamw8bitStepOp(
    slots.map((slot) => slot.parameter.handle),
    states(0),
    states(1),
    states(2),
    states(3),
    slots.map((slot) => slot.step),
    settings.learningRate * rateFactor,
    settings.betas[0],
    settings.betas[1],
    settings.eps,
    settings.weightDecay,
    clipScale?.handle,
  );
}
