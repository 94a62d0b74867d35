import { uniform, zeros } from '../ops/create.js';
import { add, cast, div, erf, exp, mul, square, sub } from '../ops/elementwise.js';
import { type Draw, nextDraw } from '../random.js';
import { unscoped } from '../scope.js';
import type { DType, Tensor } from '../tensor.js';
import type { Role } from './role.js';

/** Options every layer with parameters takes. */
export interface LayerOptions {
  readonly role?: Role;
  /** Floating dtype of the parameters; default f32. */
  readonly dtype?: DType;
  /** Seed of the random initial values; default: the next draws of the environment (see `manualSeed`). */
  readonly seed?: number | bigint;
  /** `none` leaves the parameters out, to be given by `assign` (as a model loader does); default `random`. */
  readonly init?: 'random' | 'none';
}

/** The counters for a layer's parameter number `index`. */
export function drawOf({ seed }: LayerOptions, index: number): Draw {
  return seed === undefined ? nextDraw() : { seed: BigInt(seed), stream: BigInt(index) };
}

/** A trainable tensor that belongs to a layer, not to the running scope. */
export function parameter(make: () => Tensor): Tensor {
  return unscoped(make).setRequiresGrad(true);
}

/** A trainable tensor with values uniform in [-bound, bound). */
export function uniformParameter(shape: readonly number[], bound: number, options: LayerOptions, index: number): Tensor {
  const draw = drawOf(options, index);
  return parameter(() => uniform(shape, { low: -bound, high: bound, dtype: options.dtype ?? 'f32', ...draw }));
}

/** Newton steps to the quantile of a probability within two deviations. */
const kQuantileSteps = 8;

/**
 * Numbers of a normal distribution about 0 with deviation `std` (before it is cut), cut at two of them on either side; 0 where `std` is
 * 0.
 */
export function truncatedNormal(
  shape: readonly number[],
  {
    std,
    dtype = 'f32',
    ...draw
  }: { readonly std: number; readonly dtype?: DType; readonly seed: number | bigint; readonly stream: number | bigint },
): Tensor {
  const kBelow = 0.022750131948179212; // of a standard normal distribution, below -2
  const probability = uniform(shape, { ...draw, dtype: 'f64', low: kBelow, high: 1 - kBelow });
  let x = zeros(shape, { dtype: 'f64' });
  for (let step = 0; step < kQuantileSteps; step++) {
    const below = add(mul(erf(mul(x, Math.SQRT1_2)), 0.5), 0.5);
    const density = mul(exp(mul(square(x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
    x = sub(x, div(sub(below, probability), density));
  }
  return cast(mul(x, std), dtype);
}
