import { normal } from '../ops/create.js';
import { embedding } from '../ops/index-ops.js';
import type { Tensor } from '../tensor.js';
import type { ForwardContext } from './context.js';
import { drawOf, type LayerOptions, parameter } from './init.js';
import { Layer } from './module.js';

/** Rows of a table: ids i64 [...] to [..., width], weight [size, width], made with standard normal values. */
export class Embedding extends Layer {
  readonly size: number;
  readonly width: number;
  weight!: Tensor;

  constructor(size: number, width: number, options: LayerOptions = {}) {
    super(options.role ?? 'embedding');
    this.size = size;
    this.width = width;
    if (options.init === 'none') return;
    const draw = drawOf(options, 0);
    this.weight = parameter(() => normal([size, width], { dtype: options.dtype ?? 'f32', ...draw }));
  }

  override forward(ids: Tensor, _context?: ForwardContext): Tensor {
    return embedding(this.weight, ids);
  }

  override parameterShapes(): Record<string, readonly number[]> {
    return { weight: [this.size, this.width] };
  }
}
