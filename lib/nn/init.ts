import { uniform } from '../ops/create.js';
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
