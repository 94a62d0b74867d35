import { Activation, AdaptedLayer } from '../adapters/adapted-layer.js';
import { AdapterModule, type LayerCall } from '../adapters/adapter.js';
import type { Layer, Module } from '../nn/module.js';
import { zeros } from '../ops/create.js';
import { add } from '../ops/elementwise.js';
import { expand } from '../ops/shape.js';
import { disposeTensors, isRecording, keep, noGrad, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';

const kName = '(observer)';

/** Gets the input of a layer, [.., K], each time the layer runs; what it keeps of it must be its own tensors. */
export type InputObserver = (path: string, x: Tensor) => void;
/** Gets the input [.., K] of a layer and the gradient of its output [.., N], as backward passes by; both are released afterwards. */
export type GradientObserver = (path: string, x: Tensor, dy: Tensor) => void;

export interface Observers {
  readonly onInput?: InputObserver;
  readonly onGradient?: GradientObserver;
}

class Observed extends AdapterModule {
  readonly #path: string;
  readonly #observers: Observers;
  /** Inputs whose backward has not come. */
  readonly #held: Set<Tensor>;

  constructor(path: string, observers: Observers, held: Set<Tensor>) {
    super();
    this.#path = path;
    this.#observers = observers;
    this.#held = held;
  }

  override forward({ x, next }: LayerCall): Tensor {
    const { onInput, onGradient } = this.#observers;
    noGrad(() => onInput?.(this.#path, x));
    const y = next(x);
    return onGradient === undefined || !isRecording() ? y : this.#observed(x, y, onGradient);
  }

  /** y + 0, where the zero is a leaf without memory: recorded although nothing below may want a gradient, and told that of y. */
  #observed(x: Tensor, y: Tensor, report: GradientObserver): Tensor {
    const input = keep(x.detach());
    this.#held.add(input);
    return scope(() => {
      const leaf = expand(zeros([], { dtype: y.dtype, device: y.device }), y.shape).setRequiresGrad(true);
      leaf.onGrad((dy) => {
        scope(() => noGrad(() => report(this.#path, input, dy)));
        disposeTensors([input, dy]);
        this.#held.delete(input);
        return null;
      });
      return add(y, leaf);
    });
  }
}

/**
 * Runs `work` while the layers at `paths` report what goes through them, adapters that are on them included; afterwards the network is as before. A block that is
 * recomputed in backward reports its inputs again, and its gradients once. Of a recorded pass the inputs are held until backward has come by, or `work` has ended.
 */
export async function observing(network: Module, paths: readonly string[], observers: Observers, work: () => Promise<void>): Promise<void> {
  const activation = new Activation();
  activation.active = [kName];
  activation.known.add(kName);
  const held = new Set<Tensor>();
  const observed = new Map<string, Layer>();
  try {
    for (const path of new Set(paths)) {
      const bare = network.module(path) as Layer;
      const layer = new AdaptedLayer(bare, activation);
      layer.add(kName, new Observed(path, observers, held));
      network.setModule(path, layer);
      observed.set(path, bare);
    }
    await work();
  } finally {
    for (const [path, bare] of observed) network.setModule(path, bare);
    disposeTensors(held);
  }
}
