// What tests of Poly share: one layer with an adapter, and short names for running it.
import { type AdapterConfig, type AdapterSet, attach, type PolyConfig } from 'lorikeet';
import { type ForwardContext, Linear, Module } from 'lorikeet/nn';
import type { PolyLinear } from '#dist/adapters/poly-linear.js';
import { copyInto } from '#dist/ops/shape.js';
import { noGrad, scope } from '#dist/scope.js';
import type { DType, Tensor } from '#dist/tensor.js';
import { perturb } from './perturb.js';

export const ids = [3, 17, 42, 5, 8, 80];

export class Single extends Module {
  layer: Linear;

  constructor(inputs = 12, outputs = 8, dtype: DType = 'f32') {
    super();
    this.layer = new Linear(inputs, outputs, { dtype, seed: 3 });
    this.freeze();
  }
}

export async function onSingle(network: Single, options: Partial<PolyConfig> = {}): Promise<{ module: PolyLinear; set: AdapterSet }> {
  const set = await attach(network, { type: 'poly', targets: ['layer'], ...options } as AdapterConfig, { seed: 5 });
  const module = set.get('default').placements[0]?.module as PolyLinear;
  return { module, set };
}

/** Moves factors and logits away from their starts, so that tasks and skills differ. */
export function spread(set: AdapterSet): void {
  perturb(set, 0.8);
}

export const values = (x: Tensor): number[] => scope(() => [...(x.dataSync() as Float32Array)]);

export const run = (network: Single, x: Tensor, context: ForwardContext): number[] =>
  scope(() => noGrad(() => values(network.layer.forward(x, context))));

export const ofTasks = (...tasks: (number | 'mean')[]): ForwardContext => ({ training: false, tasks });

export const put = (slot: Tensor, value: Tensor): void => void noGrad(() => copyInto(slot, value));
