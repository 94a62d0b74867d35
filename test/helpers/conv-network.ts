import { Conv1d, Conv2d, type ForwardContext, inference, Module } from '#dist/nn/index.js';
import { add, relu } from '#dist/ops/elementwise.js';
import { reshape } from '#dist/ops/shape.js';
import type { Tensor } from '#dist/tensor.js';

/** The network of scripts/golden/conv.py: a strided convolution, a depthwise one, one of a single tap, one along an axis. */
export class ConvNetwork extends Module {
  stem = new Conv2d(3, 8, 3, { stride: 2, padding: 1, seed: 1 });
  depthwise = new Conv2d(8, 8, 3, { padding: 'same', groups: 8, seed: 2 });
  point = new Conv2d(8, 6, 1, { bias: false, seed: 3 });
  along = new Conv1d(6, 5, 5, { padding: 2, seed: 4 });

  /** x [B, 3, H, W] to [B, 5, R Q]. */
  forward(x: Tensor, context: ForwardContext = inference): Tensor {
    const stem = relu(this.stem.forward(x, context));
    const y = relu(this.point.forward(add(stem, this.depthwise.forward(stem, context)), context));
    const [batch = 0, channels = 0, rows = 0, columns = 0] = y.shape;
    return this.along.forward(reshape(y, [batch, channels, rows * columns]), context);
  }
}
