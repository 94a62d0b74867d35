import { type ForwardContext, inference } from '../nn/context.js';
import { Linear } from '../nn/linear.js';
import { Layer } from '../nn/module.js';
import type { Tensor } from '../tensor.js';

/** The MLP of a block by timm's names: fc2(activation(fc1 x)). */
export class FcMlp extends Layer {
  fc1: Layer;
  fc2: Layer;
  readonly #activation: (x: Tensor) => Tensor;

  constructor(width: number, inner: number, activation: (x: Tensor) => Tensor) {
    super('mlp');
    this.fc1 = new Linear(width, inner, { init: 'none', role: 'mlp.up' });
    this.fc2 = new Linear(inner, width, { init: 'none', role: 'mlp.down' });
    this.#activation = activation;
  }

  /** x [B, T, D] to [B, T, D]. */
  override forward(x: Tensor, context: ForwardContext = inference): Tensor {
    return this.fc2.forward(this.#activation(this.fc1.forward(x, context)), context);
  }
}
