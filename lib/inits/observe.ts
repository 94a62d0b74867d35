import { Activation, AdaptedLayer } from '../adapters/adapted-layer.js';
import { AdapterModule, type LayerCall } from '../adapters/adapter.js';
import { customGrad } from '../gradient.js';
import type { Layer, Module } from '../nn/module.js';
import { zeros } from '../ops/create.js';
import { noGrad } from '../scope.js';
import type { Tensor } from '../tensor.js';

const kName = '(observer)';

/** Gets the input of a layer, [.., K]; what it keeps of it must be its own tensors. */
export type InputObserver = (path: string, x: Tensor) => void;
/** Gets the input [.., K] of a layer and the gradient of its output [.., N], as backward passes by. */
export type GradientObserver = (path: string, x: Tensor, dy: Tensor) => void;

class Observed extends AdapterModule {
  readonly #path: string;
  readonly #onInput: InputObserver | undefined;
  readonly #onGradient: GradientObserver | undefined;

  constructor(path: string, onInput: InputObserver | undefined, onGradient: GradientObserver | undefined) {
    super();
    this.#path = path;
    this.#onInput = onInput;
    this.#onGradient = onGradient;
  }

  override forward({ x, next }: LayerCall): Tensor {
    noGrad(() => this.#onInput?.(this.#path, x));
    const y = next(x);
    return this.#onGradient === undefined ? y : this.#observed(x, y, this.#onGradient);
  }

  /** y, with its gradient reported on the way back; recorded although nothing below may want one. */
  #observed(x: Tensor, y: Tensor, report: GradientObserver): Tensor {
    const anchor = zeros([]).setRequiresGrad(true);
    const [output] = customGrad(
      [x, y, anchor],
      (_x, own) => own,
      ([dy]) => {
        noGrad(() => report(this.#path, x.detach(), dy as Tensor));
        return [undefined, dy, undefined];
      },
    );
    anchor.dispose();
    return output as Tensor;
  }
}

/** Runs `work` while the layers at `paths` report what goes through them, adapters that are on them included; afterwards the network is as before. */
export async function observing(
  network: Module,
  paths: readonly string[],
  observers: { readonly onInput?: InputObserver; readonly onGradient?: GradientObserver },
  work: () => Promise<void>,
): Promise<void> {
  const activation = new Activation();
  activation.active = [kName];
  activation.known.add(kName);
  const before = paths.map((path) => [path, network.module(path) as Layer] as const);
  for (const [path, layer] of before) {
    const observed = new AdaptedLayer(layer, activation);
    observed.add(kName, new Observed(path, observers.onInput, observers.onGradient));
    network.setModule(path, observed);
  }
  try {
    await work();
  } finally {
    for (const [path, layer] of before) network.setModule(path, layer);
  }
}
