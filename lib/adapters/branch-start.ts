import { ConfigError } from '../errors.js';
import { parameter } from '../nn/init.js';
import { normal, zeros } from '../ops/create.js';
import type { Tensor } from '../tensor.js';
import { randomOf, type StartContext, startUniform } from './named-start.js';
import { AffineParameters } from './sublayer-bottleneck.js';

/**
 * Starting values of what goes around sub-layers. `zero_up`: the last product is zero, so that nothing changes at the start. `trunc_normal_0.02`: all linear maps
 * normal with deviation 0.02 (cut off at 2, a hundred deviations, as transformers does) with biases zero, convolutions as they start. `zero`: everything zero, which learns almost nothing: the
 * gradient of both matrices is zero too.
 */
export type BranchInit = 'zero_up' | 'trunc_normal_0.02' | 'zero';
export const branchInits: readonly BranchInit[] = ['zero_up', 'trunc_normal_0.02', 'zero'];

const kDeviation = 0.02;

/** Makes the parameters of one branch, at `path` and of a name of their own each. */
export class BranchStart {
  readonly #context: StartContext;
  readonly #path: string;
  readonly init: BranchInit;

  constructor(context: StartContext, path: string, init: BranchInit) {
    this.#context = context;
    this.#path = path;
    this.init = init;
  }

  zeros(...shape: number[]): Tensor {
    return parameter(() => zeros(shape, { dtype: this.#context.dtype }));
  }

  /** Uniform within `bound`. */
  uniform(name: string, shape: readonly number[], bound: number): Tensor {
    return parameter(() => startUniform(this.#context, this.#path, name, shape, bound));
  }

  normal(name: string, shape: readonly number[], std: number): Tensor {
    return parameter(() => normal(shape, { std, ...randomOf(this.#context, this.#path, name) }));
  }

  /** A matrix [N, K]: the first one of a branch, or the last one. */
  matrix(name: string, place: 'first' | 'last', [outputs, inputs]: readonly [number, number]): Tensor {
    if (this.init === 'trunc_normal_0.02') return this.normal(name, [outputs, inputs], kDeviation);
    if (this.init === 'zero' || place === 'last') return this.zeros(outputs, inputs);
    return this.uniform(name, [outputs, inputs], 1 / Math.sqrt(inputs));
  }

  /** A linear map K to N with a bias of zero. */
  linear(name: string, place: 'first' | 'last', shape: readonly [number, number]): AffineParameters {
    return new AffineParameters(this.matrix(name, place, shape), this.zeros(shape[0]));
  }

  /** The same for a convolution of one tap, which `trunc_normal_0.02` leaves as convolutions start: all values uniform within 1 / sqrt(K). */
  convolution(name: string, place: 'first' | 'last', [outputs, inputs]: readonly [number, number]): AffineParameters {
    if (place === 'last' && this.init === 'zero_up') return new AffineParameters(this.zeros(outputs, inputs), this.zeros(outputs));
    const bound = 1 / Math.sqrt(inputs);
    return new AffineParameters(this.uniform(name, [outputs, inputs], bound), this.uniform(`${name}.bias`, [outputs], bound));
  }
}

/** Numbers between the two maps: `width`, or D by the reduction rate. Throws `ConfigError` where none are left. */
export function innerWidth(
  method: string,
  { width, reduction }: { readonly width: number | null; readonly reduction: number },
  stream: number,
): number {
  if (width !== null) return width;
  const inner = Math.round(stream / reduction);
  if (reduction > stream || inner < 1)
    throw new ConfigError(`${method}: reduction leaves nothing of a stream of ${stream}; got ${reduction}, expected at most ${stream}`);
  return inner;
}
