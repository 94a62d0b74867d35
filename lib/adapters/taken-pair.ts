import { AdapterError } from '../errors.js';
import type { Linear } from '../nn/linear.js';
import type { Layer, Module } from '../nn/module.js';
import { add, cast, mul, sub } from '../ops/elementwise.js';
import { matmul, PackedWeight, packWeight } from '../ops/linalg.js';
import type { LowRankFactors } from '../ops/lowrank.js';
import { noGrad, scope, unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { AdaptedLayer } from './adapted-layer.js';
import { AdapterModule, type Placement, type TakenPart, type Taking } from './adapter.js';
import { denseWeight } from './trained-copy.js';

/** The low-rank pair as a fixed branch; its tensors belong to the pair it stands for. */
class StandIn extends AdapterModule {
  readonly #factors: LowRankFactors;

  constructor(factors: LowRankFactors) {
    super();
    this.#factors = factors;
  }

  override lowRank(): LowRankFactors {
    return this.#factors;
  }
}

/**
 * The part s B A of a frozen weight [N, K] that a low-rank pair starts from. Owns A and B. The layer keeps W - s B A, formed in the dtype of the factors and
 * rounded once to the dtype of the weight, or `weight`, one of its own.
 */
export class TakenPair implements TakenPart {
  readonly standIn: AdapterModule;
  readonly tensors: { readonly initial_A: Tensor; readonly initial_B: Tensor };
  readonly scale: number;
  #weight: PackedWeight | undefined;

  constructor(a: Tensor, b: Tensor, scale: number, weight?: PackedWeight) {
    this.tensors = { initial_A: a, initial_B: b };
    this.scale = scale;
    this.standIn = new StandIn({ a, b, scale });
    this.#weight = weight;
  }

  take(layer: Layer): Taking {
    const ready = this.#weight;
    const before = this.#change(layer as Linear, sub, ready);
    this.#weight = undefined;
    return {
      settle: () => before.dispose(),
      undo: () => {
        const { weight } = layer as Linear;
        (layer as Linear).weight = before;
        weight.dispose();
      },
    };
  }

  putBack(layer: Layer): void {
    this.#change(layer as Linear, add).dispose();
  }

  dispose(): void {
    for (const tensor of Object.values(this.tensors)) tensor.dispose();
    this.#weight?.dispose();
  }

  /** Returns the weight that it replaces. */
  #change(layer: Linear, combine: (w: Tensor, part: Tensor) => Tensor, ready?: PackedWeight): Linear['weight'] {
    const before = layer.weight;
    const { initial_A: a, initial_B: b } = this.tensors;
    layer.weight = unscoped(() =>
      scope(() =>
        noGrad(() => {
          if (ready !== undefined) return ready;
          const weight = denseWeight(layer, a.dtype);
          return packWeight(cast(combine(weight, mul(matmul(b, a), this.scale)), before.dtype), { layout: layer.layout });
        }),
      ),
    );
    return before;
  }
}

const bareLayer = (network: Module, path: string): Layer => (network.module(path) as AdaptedLayer).base;

/** Takes the parts out of the weights that newly injected modules stand for, all or none: where it fails, the weights from before are in their layers. */
export function takeParts(network: Module, placements: readonly Placement[]): void {
  const done: Taking[] = [];
  try {
    for (const { path, module } of placements) if (module.taken !== undefined) done.push(module.taken.take(bareLayer(network, path)));
  } catch (error) {
    for (const taking of done.reverse()) taking.undo();
    throw error;
  }
  for (const taking of done) taking.settle();
}

/** Throws `AdapterError` for a layer whose weight cannot be split into a part that is trained and a rest. */
export function checkSplittable(path: string, layer: Linear, what: string): void {
  if (layer.tiedTo !== undefined)
    throw new AdapterError(`${what}: the weight of "${path}" is that of the embedding and cannot be split; expected targets without it`);
  if (layer.weight instanceof PackedWeight && layer.weight.quantization !== undefined) {
    throw new AdapterError(
      `${what}: "${path}" is stored as ${layer.weight.quantization}; initialise in floating point and quantise the rest (init option "quantize")`,
    );
  }
}
