import { ShapeError } from '../errors.js';
import type { BatchNorm1d } from '../nn/batch-norm.js';
import { parameter } from '../nn/init.js';
import { conv1d, conv2d } from '../ops/conv.js';
import { tensor } from '../ops/create.js';
import { dropout } from '../ops/dropout.js';
import { cast, silu } from '../ops/elementwise.js';
import { glu, quickGelu } from '../ops/gates.js';
import { concat } from '../ops/join.js';
import { linear } from '../ops/linalg.js';
import { narrow, permute, reshape, transpose } from '../ops/shape.js';
import { noGrad, scope } from '../scope.js';
import type { DType, Tensor } from '../tensor.js';
import { type AffineParameters, type BottleneckPass, Branch } from './sublayer-bottleneck.js';
import { withoutPadding } from './token-mask.js';

/** Where the patches of a sequence are: behind so many special tokens, in so many rows. */
export interface TokenGrid {
  readonly special: number;
  readonly rows: number;
}

/** Along the tokens, over the grid of patches, or none. */
export type ConvpassForm = '1d' | '2d' | 'none';

/** Weight of a convolution [M, M, ...taps] that starts as the identity: 1 in the middle. */
export function identityConvolution(width: number, taps: readonly number[], dtype: DType): Tensor {
  const inner = taps.reduce((product, size) => product * size, 1);
  const values = new Float64Array(width * width * inner);
  for (let i = 0; i < width; i++) values[(i * width + i) * inner + Math.floor(inner / 2)] = 1;
  return parameter(() => scope(() => noGrad(() => cast(tensor(values, { shape: [width, width, ...taps] }), dtype))));
}

export interface ConvpassParts {
  readonly down: AffineParameters;
  /** [M, M, 3] along the tokens, [M, M, 3, 3] over the grid; absent: no convolution. */
  readonly conv?: AffineParameters;
  readonly up: AffineParameters;
}

/**
 * up(drop(g(conv(g(down x))))) with g(z) = z σ(1.702 z). Over the grid, each special token is an image of its own with one pixel.
 * "Convolutional Bypasses Are Better Vision Transformer Adapters".
 */
export class Convpass extends Branch implements ConvpassParts {
  readonly down: AffineParameters;
  readonly conv?: AffineParameters;
  readonly up: AffineParameters;
  readonly #grid: TokenGrid | undefined;
  readonly #dropout: number;

  constructor({ down, conv, up }: ConvpassParts, p: number, grid?: TokenGrid) {
    super();
    this.down = down;
    if (conv !== undefined) this.conv = conv;
    this.up = up;
    this.#grid = grid;
    this.#dropout = p;
  }

  override forward(x: Tensor, { training, random, keyLengths }: BottleneckPass): Tensor {
    const { down, up } = this;
    const hidden = quickGelu(linear(cast(x, down.weight.dtype), down.weight, down.bias));
    const mixed = quickGelu(this.conv === undefined ? hidden : this.#convolve(withoutPadding(hidden, keyLengths), this.conv));
    const dropped = training && this.#dropout > 0 ? dropout(mixed, this.#dropout, random.next()) : mixed;
    return cast(linear(dropped, up.weight, up.bias), x.dtype);
  }

  /** [B, T, M] to the same. */
  #convolve(hidden: Tensor, { weight, bias }: AffineParameters): Tensor {
    if (this.#grid === undefined) return transpose(conv1d(transpose(hidden), weight, bias, { padding: 'same' }));
    const { special, rows } = this.#grid;
    const [batch = 0, time = 0, width = 0] = hidden.shape;
    const columns = Math.floor((time - special) / rows);
    if (columns < 1 || special + rows * columns !== time)
      throw new ShapeError(`block-adapter: tokens do not fill a grid; got ${time}, expected ${special} and a multiple of ${rows}`);
    const over = (part: Tensor, count: number, height: number, breadth: number): Tensor => {
      const images = permute(reshape(part, [count, height, breadth, width]), [0, 3, 1, 2]);
      return permute(conv2d(images, weight, bias, { padding: 'same' }), [0, 2, 3, 1]);
    };
    const patches = reshape(over(narrow(hidden, 1, special, time - special), batch, rows, columns), [batch, time - special, width]);
    if (special === 0) return patches;
    const alone = over(reshape(narrow(hidden, 1, 0, special), [batch * special, width]), batch * special, 1, 1);
    return concat([reshape(alone, [batch, special, width]), patches], 1);
  }
}

export interface ConformerParts {
  /** D to 2 M. */
  readonly pointwise1: AffineParameters;
  /** [M, 1, taps] and [M]. */
  readonly depthwise: AffineParameters;
  readonly norm: BatchNorm1d;
  /** M to D. */
  readonly pointwise2: AffineParameters;
}

/**
 * The convolution module of "Conformer: Convolution-augmented Transformer for Speech Recognition" as a bottleneck: D to 2 M, a gate, a depthwise convolution along
 * the tokens, batch normalisation, SiLU, M to D. In training a row's output depends on its batch, padding included.
 */
export class Conformer extends Branch implements ConformerParts {
  readonly pointwise1: AffineParameters;
  readonly depthwise: AffineParameters;
  readonly norm: BatchNorm1d;
  readonly pointwise2: AffineParameters;
  readonly #dropout: number;

  constructor({ pointwise1, depthwise, norm, pointwise2 }: ConformerParts, p: number) {
    super();
    this.pointwise1 = pointwise1;
    this.depthwise = depthwise;
    this.norm = norm;
    this.pointwise2 = pointwise2;
    this.#dropout = p;
  }

  override forward(x: Tensor, { training, random, keyLengths }: BottleneckPass): Tensor {
    const { pointwise1, depthwise, pointwise2 } = this;
    const gated = glu(linear(cast(x, pointwise1.weight.dtype), pointwise1.weight, pointwise1.bias));
    const channels = transpose(withoutPadding(gated, keyLengths));
    const mixed = conv1d(channels, depthwise.weight, depthwise.bias, { padding: 'same', groups: channels.shape[1] ?? 1 });
    const hidden = transpose(silu(this.norm.forward(mixed, { training })));
    const y = linear(hidden, pointwise2.weight, pointwise2.bias);
    return cast(training && this.#dropout > 0 ? dropout(y, this.#dropout, random.next()) : y, x.dtype);
  }
}
