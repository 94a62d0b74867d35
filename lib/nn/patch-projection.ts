import { ShapeError } from '../errors.js';
import { tensor } from '../ops/create.js';
import { indexSelect } from '../ops/index-ops.js';
import { linear } from '../ops/linalg.js';
import { narrow, permute, reshape } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';
import type { ForwardContext } from './context.js';
import { type LayerOptions, uniformParameter } from './init.js';
import { Layer } from './module.js';

/** [height, width] of a patch, in pixels. */
export type PatchSize = readonly [number, number];

export interface PatchProjectionOptions extends LayerOptions {
  /** Pixels from one patch to the next; default: the size of a patch. */
  readonly stride?: PatchSize;
}

/**
 * Patches of images to tokens: the convolution of "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale". Images [B, C, H, W] to
 * [B, rows * columns, width], row after row; weight [width, C, h, w], bias [width]. Pixels beyond the last whole patch are not read.
 */
export class PatchProjection extends Layer {
  readonly channels: number;
  readonly width: number;
  readonly patch: PatchSize;
  readonly stride: PatchSize;
  weight!: Tensor;
  bias!: Tensor;

  constructor(channels: number, width: number, patch: PatchSize, options: PatchProjectionOptions = {}) {
    super(options.role ?? 'conv');
    this.channels = channels;
    this.width = width;
    this.patch = patch;
    this.stride = options.stride ?? patch;
    if (options.init === 'none') return;
    const bound = 1 / Math.sqrt(channels * patch[0] * patch[1]);
    this.weight = uniformParameter([width, channels, ...patch], bound, options, 0);
    this.bias = uniformParameter([width], bound, options, 1);
  }

  /** Rows and columns of patches in an image. Throws `ShapeError` for one that is smaller than a patch. */
  grid(height: number, width: number): PatchSize {
    const places = (size: number, axis: 0 | 1): number => Math.floor((size - this.patch[axis]) / this.stride[axis]) + 1;
    const grid = [places(height, 0), places(width, 1)] as const;
    if (Math.min(...grid) < 1)
      throw new ShapeError(
        `patches: the input is smaller than a patch; got ${height} x ${width}, expected at least ${this.patch.join(' x ')}`,
      );
    return grid;
  }

  override forward(images: Tensor, _context?: ForwardContext): Tensor {
    const [batch = 0, channels = 0, height = 0, width = 0] = images.shape;
    if (images.rank !== 4 || channels !== this.channels)
      throw new ShapeError(`patches: got [${images.shape.join(', ')}], expected [B, ${this.channels}, H, W]`);
    const [rows, columns] = this.grid(height, width);
    const inner = this.channels * this.patch[0] * this.patch[1];
    const covered = this.#covering(
      this.#covering(images, 2, rows, this.patch[0], this.stride[0]),
      3,
      columns,
      this.patch[1],
      this.stride[1],
    );
    const cut = reshape(covered, [batch, channels, rows, this.patch[0], columns, this.patch[1]]);
    const patches = reshape(permute(cut, [0, 2, 4, 1, 3, 5]), [batch, rows * columns, inner]);
    return linear(patches, reshape(this.weight, [this.width, inner]), this.bias);
  }

  override parameterShapes(): Record<string, readonly number[]> {
    return { weight: [this.width, this.channels, ...this.patch], bias: [this.width] };
  }

  /** `count` stretches of `size` along an axis, one after the other; where they overlap, pixels are repeated. */
  #covering(x: Tensor, axis: number, count: number, size: number, stride: number): Tensor {
    if (size === stride) return narrow(x, axis, 0, count * size);
    const places = Int32Array.from({ length: count * size }, (_, i) => Math.floor(i / size) * stride + (i % size));
    return indexSelect(x, axis, tensor(places));
  }
}
