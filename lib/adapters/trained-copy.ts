import { type Layer, Module, type Parameter } from '../nn/module.js';
import { cast, clone } from '../ops/elementwise.js';
import { PackedWeight } from '../ops/linalg.js';
import { keep, noGrad, scope } from '../scope.js';
import { type DType, Tensor } from '../tensor.js';
import { AdapterModule, type LayerParameters } from './adapter.js';

/** The tensors a layer, or a network, computes with by property name, a weight tied from elsewhere included. */
export function parametersOf(layer: Module): Map<string, Parameter> {
  const found = new Map<string, Parameter>();
  for (const [name, value] of Object.entries(layer)) if (value instanceof Tensor || value instanceof PackedWeight) found.set(name, value);
  return found;
}

/** Dense copies in `dtype` of a layer's parameters, unrecorded; the caller owns them. */
export function denseParameters(layer: Module, dtype: DType, names?: readonly string[]): LayerParameters {
  return scope(() =>
    noGrad(() => {
      const copies: Record<string, Tensor> = {};
      for (const [name, value] of parametersOf(layer)) {
        if (names !== undefined && !names.includes(name)) continue;
        const whole = value instanceof Tensor ? value : value.unpack();
        copies[name] = whole.dtype === dtype ? clone(whole) : cast(whole, dtype);
      }
      return copies;
    }),
  );
}

/** A dense copy in `dtype` of a layer's weight, unrecorded; the caller owns it. */
export const denseWeight = (layer: Layer & { readonly weight: Parameter }, dtype: DType): Tensor =>
  denseParameters(layer, dtype, ['weight']).weight as Tensor;

function trainable(copies: LayerParameters): LayerParameters {
  for (const value of Object.values(copies)) keep(value).setRequiresGrad(true);
  return copies;
}

/** A layer trained whole: copies of its parameters stand for them while the adapter is active. Saved under the layer's own names. */
export class TrainedCopy extends AdapterModule {
  readonly #names: readonly string[];

  constructor(layer: Layer, dtype: DType, names?: readonly string[]) {
    super();
    const copies = trainable(denseParameters(layer, dtype, names));
    this.#names = Object.keys(copies);
    Object.assign(this, copies);
  }

  override replaces(): LayerParameters {
    return Object.fromEntries([...this.ownParameters()].filter(([name]) => this.#names.includes(name))) as LayerParameters;
  }

  override merge(_pristine: LayerParameters, merged: LayerParameters): LayerParameters {
    return { ...merged, ...this.replaces() };
  }
}

class BaseLayerBias extends Module {
  readonly bias: Tensor;

  constructor(bias: Tensor) {
    super();
    this.bias = bias;
  }
}

/** The trained bias of a layer that carries a branch as well; saved as `base_layer.bias`. */
export class TrainedBias extends AdapterModule {
  readonly base_layer: BaseLayerBias;

  constructor(layer: Layer, dtype: DType) {
    super();
    this.base_layer = new BaseLayerBias(trainable(denseParameters(layer, dtype, ['bias'])).bias as Tensor);
  }

  override replaces(): LayerParameters {
    return { bias: this.base_layer.bias };
  }

  override merge(_pristine: LayerParameters, merged: LayerParameters): LayerParameters {
    return { ...merged, bias: this.base_layer.bias };
  }
}
