import { type DType, Model, scope, type Tensor } from 'lorikeet';
import { Layer, Linear } from 'lorikeet/nn';
import { normal, ones, type WeightLayout, zeros } from 'lorikeet/ops';
import { createNetwork } from '#dist/models/registry.js';
import { isInt8, packedInt8 } from '#dist/models/weight-storage.js';

/** A frozen model of a published shape with random weights: norms 1, biases 0, the rest normal with deviation 0.02. `int8` as `compute: int8`. */
export function randomModel(
  config: Readonly<Record<string, string | number | boolean>>,
  dtype: DType,
  layout: WeightLayout,
  int8 = false,
): Model {
  const network = createNetwork(config);
  let seed = 0;
  for (const [path, module] of network.namedModules()) {
    if (module instanceof Linear) module.layout = layout;
    for (const [name, shape] of Object.entries(module.parameterShapes())) {
      scope(() => {
        const isNorm = /norm/.test(path);
        const make =
          name === 'bias' ? zeros(shape, { dtype }) : isNorm ? ones(shape, { dtype }) : normal(shape, { std: 0.02, seed: ++seed, dtype });
        module.assign(name, int8 && isInt8(module, name) ? packedInt8(make) : make);
      });
    }
  }
  network.retie();
  return new Model({ network, config, device: 'cpu', endTokens: [], tokenizer: undefined, source: 'random weights' });
}

/** Makes the output of a layer a leaf, so that backward walks the whole network although nothing in it is trained. */
export class InputGradient extends Layer {
  readonly #inner: Layer;
  leaf: Tensor | undefined;

  constructor(inner: Layer) {
    super(inner.role);
    this.#inner = inner;
  }

  override forward(x: Tensor): Tensor {
    this.leaf = this.#inner.forward(x).detach().setRequiresGrad(true);
    return this.leaf;
  }
}
