import { InvalidArgumentError } from '../errors.js';
import { add, cast, div, maximum, mul, rsqrt, sqrt, square, sub } from '../ops/elementwise.js';
import { mean } from '../ops/reduce.js';
import { copyInto, unsqueeze } from '../ops/shape.js';
import { noGrad, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { Optimizer, type Slot, type StateSpec, type StepOptions } from './optimizer.js';
import { checkRange, type ParameterGroup } from './parameter-groups.js';

export interface AdafactorSettings {
  /** Default 1e-3; with `relativeStep` a factor of the step, and 1 by default. */
  learningRate: number;
  /** Multiplies the rate by the root mean square of the parameter, eps[1] at least. A parameter of zeros then learns by eps[1] of the rate. Default false. */
  scaleParameter: boolean;
  /** The rate is min(0.01, 1 / sqrt(t)) in step t. Default false. */
  relativeStep: boolean;
  /** With `relativeStep`: min(1e-6 t, 1 / sqrt(t)). Default false. */
  warmupInit: boolean;
  /** An update whose root mean square is above this is brought down to it. Default 1. */
  clipThreshold: number;
  /** The running mean of squared gradients decays by 1 - t ** decayRate in step t. Default -0.8. */
  decayRate: number;
  /** Decay of the running mean of updates; null: none is kept. Default null. */
  beta1: number | null;
  /** Added to the squared gradient, above 0, and the least that `scaleParameter` multiplies by. Default [1e-30, 1e-3]. */
  eps: readonly [number, number];
  /** Decoupled from the gradient. Default 0. */
  weightDecay: number;
}

export type AdafactorOptions = Partial<AdafactorSettings>;

export const adafactorDefaults = {
  scaleParameter: false,
  relativeStep: false,
  warmupInit: false,
  clipThreshold: 1,
  decayRate: -0.8,
  beta1: null,
  eps: [1e-30, 1e-3],
} as const satisfies Partial<AdafactorSettings>;

/**
 * Adafactor ("Adafactor: Adaptive Learning Rates with Sublinear Memory Cost"), with the order of operations of transformers. Of the squared gradients of a parameter
 * [.., R, C] it keeps the means of rows [.., R] and columns [.., C], of one with fewer dimensions those of all elements. Unlike there, the rate is the given one
 * unless `relativeStep` says otherwise, and is not scaled by the parameter unless `scaleParameter` does.
 */
export class Adafactor extends Optimizer<AdafactorSettings> {
  readonly kind = 'adafactor';

  constructor(parameters: Iterable<Tensor> | Iterable<ParameterGroup<AdafactorSettings>>, options: AdafactorOptions = {}) {
    const defaults = { learningRate: options.relativeStep ? 1 : 1e-3, ...adafactorDefaults, weightDecay: 0 };
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    super('Adafactor', parameters, { ...defaults, ...given }, checkSettings);
  }

  protected statesOf({ shape, dtype }: Tensor, { beta1 }: AdafactorSettings): readonly StateSpec[] {
    const own = dtype === 'f64' ? 'f64' : 'f32';
    const [rows, columns] = [shape.slice(0, -1), [...shape.slice(0, -2), ...shape.slice(-1)]];
    const second: StateSpec[] = isFactored(shape)
      ? [
          { name: 'rowSecondMoment', shape: rows, dtype: own },
          { name: 'columnSecondMoment', shape: columns, dtype: own },
        ]
      : [{ name: 'secondMoment', shape, dtype: own }];
    return beta1 === null ? second : [...second, { name: 'firstMoment', shape, dtype: own }];
  }

  protected update(slots: readonly Slot[], settings: AdafactorSettings, options: StepOptions): void {
    for (const slot of slots) if (slot.parameter.size > 0) scope(() => noGrad(() => stepOne(slot, settings, options)));
  }
}

const isFactored = (shape: readonly number[]): boolean => shape.length >= 2;
const rootMeanSquare = (x: Tensor): Tensor => sqrt(mean(square(x)));

function stepOne({ parameter, step, states }: Slot, settings: AdafactorSettings, { clipScale, rateFactor = 1 }: StepOptions): void {
  const { scaleParameter, clipThreshold, decayRate, beta1, eps, weightDecay } = settings;
  const dtype = parameter.dtype === 'f64' ? 'f64' : 'f32';
  const values = cast(parameter, dtype);
  const own = cast(parameter.grad as Tensor, dtype);
  const gradient = clipScale === undefined ? own : mul(own, cast(clipScale, dtype));
  const factored = isFactored(parameter.shape);
  const direction = mul(rootOfSecondMoment(gradient, states, 1 - step ** decayRate, eps[0]), gradient);
  const clipped = div(direction, maximum(div(rootMeanSquare(direction), clipThreshold), 1));
  const base = rateOf(settings, step) * rateFactor;
  const rate = scaleParameter ? mul(maximum(rootMeanSquare(values), eps[1]), base) : base;
  let change = mul(clipped, rate);
  if (beta1 !== null) change = mixed(states[factored ? 2 : 1] as Tensor, change, beta1);
  const kept = weightDecay === 0 ? values : sub(values, mul(values, scaledBy(rate, weightDecay)));
  copyInto(parameter, cast(sub(kept, change), parameter.dtype));
}

const scaledBy = (rate: Tensor | number, factor: number): Tensor | number => (typeof rate === 'number' ? rate * factor : mul(rate, factor));

/** The rate of a step before schedule and scale. */
function rateOf({ learningRate, relativeStep, warmupInit }: AdafactorSettings, step: number): number {
  if (!relativeStep) return learningRate;
  return learningRate * Math.min(warmupInit ? 1e-6 * step : 1e-2, 1 / Math.sqrt(step));
}

/** state = decay * state + (1 - decay) * x, in place. */
function mixed(state: Tensor, x: Tensor, decay: number): Tensor {
  const next = add(mul(state, decay), mul(x, 1 - decay));
  copyInto(state, next);
  return next;
}

/** 1 / sqrt(v), where v is the running mean of squared gradients, or what the means of its rows and columns say of it. */
function rootOfSecondMoment(gradient: Tensor, states: readonly Tensor[], decay: number, eps: number): Tensor {
  const squared = add(square(gradient), eps);
  if (!isFactored(gradient.shape)) return rsqrt(mixed(states[0] as Tensor, squared, decay));
  const rows = mixed(states[0] as Tensor, mean(squared, -1), decay);
  const columns = mixed(states[1] as Tensor, mean(squared, -2), decay);
  return mul(unsqueeze(rsqrt(div(rows, mean(rows, -1, { keepDim: true }))), -1), unsqueeze(rsqrt(columns), -2));
}

function checkSettings(settings: AdafactorSettings, group: string): void {
  const above = Number.POSITIVE_INFINITY;
  const { beta1, decayRate, clipThreshold, relativeStep, warmupInit } = settings;
  checkRange('Adafactor', group, 'learningRate', settings.learningRate, 0, above);
  checkRange('Adafactor', group, 'eps[0]', settings.eps[0], 0, above);
  checkRange('Adafactor', group, 'eps[1]', settings.eps[1], 0, above);
  checkRange('Adafactor', group, 'weightDecay', settings.weightDecay, 0, above);
  if (beta1 !== null) checkRange('Adafactor', group, 'beta1', beta1, 0, 1);
  const refuse = (key: string, got: unknown, expected: string): never => {
    throw new InvalidArgumentError(`Adafactor: ${key} of group ${group} cannot be used; got ${got}, expected ${expected}`);
  };
  if (!(decayRate < 0 && decayRate > Number.NEGATIVE_INFINITY)) refuse('decayRate', decayRate, 'a number below 0');
  if (Math.fround(settings.eps[0]) === 0)
    refuse('eps[0]', settings.eps[0], 'a number above 0 in f32, without which a gradient of zeros gives NaN');
  if (!(clipThreshold > 0)) refuse('clipThreshold', clipThreshold, 'a number above 0');
  if (warmupInit && !relativeStep) refuse('warmupInit', warmupInit, 'false without relativeStep');
}
