import { normal } from '../ops/create.js';
import { embedding } from '../ops/index-ops.js';
import { PackedWeight } from '../ops/linalg.js';
import { unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { ForwardContext } from './context.js';
import { drawOf, type LayerOptions, parameter } from './init.js';
import { Layer } from './module.js';
import { refuseTraining } from './quantized.js';

/** Rows of a table: ids i64 [...] to [..., width], weight [size, width], made with standard normal values. */
export class Embedding extends Layer {
  readonly size: number;
  readonly width: number;
  /** A tensor; packed where it is frozen and tied to a head; or the blocks of a quantised table. */
  weight!: Tensor | PackedWeight;

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

  override checkTrainable(): void {
    if (this.weight instanceof PackedWeight && this.weight.quantization !== undefined) refuseTraining('embedding', this.weight);
  }

  override setTrainable(on: boolean): void {
    if (on) this.checkTrainable();
    if (on && this.weight instanceof PackedWeight) {
      const before = this.weight;
      this.assign(
        'weight',
        unscoped(() => before.unpack()),
      );
    }
    super.setTrainable(on);
  }

  override parameterShapes(): Record<string, readonly number[]> {
    return { weight: [this.size, this.width] };
  }
}
