import {
  type AdapterMethod,
  AdapterModule,
  type CommonConfig,
  commonDefaults,
  type DType,
  type LayerCall,
  type LayerParameters,
  type Tensor,
} from 'lorikeet';
import { Linear } from 'lorikeet/nn';
import { cast, mul, ones, unsqueeze } from 'lorikeet/ops';

/** One learned factor per output of a linear layer: y = (x Wᵀ + b) * scale. */
class OutputScaleModule extends AdapterModule {
  scale: Tensor;

  constructor(size: number, dtype: DType) {
    super();
    this.scale = ones([size], { dtype }).setRequiresGrad(true);
  }

  override forward({ x, next }: LayerCall): Tensor {
    const y = next(x);
    return cast(mul(cast(y, this.scale.dtype), this.scale), y.dtype);
  }

  override merge(_pristine: LayerParameters, merged: LayerParameters): LayerParameters {
    const { weight, bias } = merged;
    return { weight: mul(weight as Tensor, unsqueeze(this.scale, 1)), ...(bias && { bias: mul(bias, this.scale) }) };
  }
}

export const outputScale: AdapterMethod<'output-scale', CommonConfig> = {
  name: 'output-scale',
  prefix: 'scale',
  defaults: commonDefaults,
  check: () => {},
  roles: ['attention.key', 'attention.value', 'mlp.down'],
  create: ({ path, layer }, _config, { dtype }) => {
    if (!(layer instanceof Linear)) throw new TypeError(`output-scale: "${path}" is not a linear layer`);
    return new OutputScaleModule(layer.outFeatures, dtype);
  },
};
