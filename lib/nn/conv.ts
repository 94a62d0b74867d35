import { InvalidArgumentError } from '../errors.js';
import { type ConvOptions, conv1d, conv2d, type Padding, type Pair } from '../ops/conv.js';
import type { Tensor } from '../tensor.js';
import type { ForwardContext } from './context.js';
import { type LayerOptions, uniformParameter } from './init.js';
import { Layer } from './module.js';

export interface ConvLayerOptions<Sides> extends LayerOptions, ConvOptions<Sides> {
  /** Whether there is a bias; default true. */
  readonly bias?: boolean;
}

/** A convolution with weight [O, I / groups, ...kernel] and bias [O], made with random trainable values uniform within 1 / sqrt(inputs of an output). */
export abstract class Conv<Sides extends Pair> extends Layer {
  readonly inChannels: number;
  readonly outChannels: number;
  /** Taps along each side. */
  readonly kernel: readonly number[];
  readonly stride: Sides;
  readonly padding: Padding<Sides>;
  readonly dilation: Sides;
  readonly groups: number;
  weight!: Tensor;
  bias?: Tensor;
  readonly #hasBias: boolean;

  constructor(inChannels: number, outChannels: number, kernel: readonly number[], options: ConvLayerOptions<Sides>) {
    super(options.role ?? 'conv');
    const { groups = 1 } = options;
    if (inChannels % groups !== 0 || outChannels % groups !== 0)
      throw new InvalidArgumentError(
        `conv: groups must divide the channels; got groups ${groups} for ${inChannels} to ${outChannels} channels`,
      );
    this.inChannels = inChannels;
    this.outChannels = outChannels;
    this.kernel = kernel;
    this.stride = options.stride ?? (1 as Sides);
    this.padding = options.padding ?? (0 as Sides);
    this.dilation = options.dilation ?? (1 as Sides);
    this.groups = groups;
    this.#hasBias = options.bias ?? true;
    if (options.init === 'none') return;
    const shape = this.weightShape;
    const bound = 1 / Math.sqrt(shape.slice(1).reduce((a, b) => a * b, 1));
    this.weight = uniformParameter(shape, bound, options, 0);
    if (this.#hasBias) this.bias = uniformParameter([outChannels], bound, options, 1);
  }

  /** [O, I / groups, ...kernel]. */
  get weightShape(): readonly number[] {
    return [this.outChannels, this.inChannels / this.groups, ...this.kernel];
  }

  /** This layer's walk over its input with another weight, [O', I / groups', ...kernel], and the bias given, if any. */
  abstract apply(x: Tensor, weight: Tensor, bias?: Tensor, options?: ConvOptions<Sides>): Tensor;

  override forward(x: Tensor, _context?: ForwardContext): Tensor {
    return this.apply(x, this.weight, this.bias, this);
  }

  override parameterShapes(): Record<string, readonly number[]> {
    return { weight: this.weightShape, ...(this.#hasBias ? { bias: [this.outChannels] } : {}) };
  }
}

/** `conv1d` as a layer: x [B, I, L] to [B, O, L'], weight [O, I / groups, kernel], bias [O]. */
export class Conv1d extends Conv<number> {
  constructor(inChannels: number, outChannels: number, kernel: number, options: ConvLayerOptions<number> = {}) {
    super(inChannels, outChannels, [kernel], options);
  }

  override apply(x: Tensor, weight: Tensor, bias?: Tensor, options: ConvOptions<number> = {}): Tensor {
    return conv1d(x, weight, bias, options);
  }
}

/** `conv2d` as a layer: x [B, I, H, W] to [B, O, H', W'], weight [O, I / groups, rows, columns], bias [O]. */
export class Conv2d extends Conv<Pair> {
  constructor(inChannels: number, outChannels: number, kernel: Pair, options: ConvLayerOptions<Pair> = {}) {
    super(inChannels, outChannels, typeof kernel === 'number' ? [kernel, kernel] : kernel, options);
  }

  override apply(x: Tensor, weight: Tensor, bias?: Tensor, options: ConvOptions<Pair> = {}): Tensor {
    return conv2d(x, weight, bias, options);
  }
}
