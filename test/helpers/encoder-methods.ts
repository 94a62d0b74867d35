// What tests of methods for encoders share: golden encoders, inputs for them, their answers.
import { type AdapterSet, noGrad, scope, type Tensor } from 'lorikeet';
import { normal } from 'lorikeet/ops';
import type { EncoderInput, EncoderNetwork } from '#dist/models/encoder.js';
import type { ForwardContext } from '#dist/nn/index.js';
import { PackedWeight } from '#dist/ops/linalg.js';
import { goldenEncoder, openEncoder } from './encoders.js';

export const plain: ForwardContext = { training: false };
export const values = (x: Tensor): Float64Array => Float64Array.from(x.dataSync() as ArrayLike<number | bigint>, Number);
export const gradientOf = (x: Tensor): Float64Array => scope(() => values(x.grad as Tensor));
export const open = async (
  name = 'ast',
  task: 'classification' | 'embedding' = 'classification',
  dtype: 'f32' | 'f64' = 'f32',
): Promise<EncoderNetwork> =>
  (await openEncoder(goldenEncoder(name), task, { dtype, ...(name === 'ast' && { head: { pooling: { mode: 'mean' } } }) })).network;

/** A batch for a golden encoder of sounds or images. */
export function inputOf({ shape, modality }: EncoderNetwork, rows = 2, dtype: 'f32' | 'f64' = 'f32'): EncoderInput {
  const x = normal([rows, ...(shape.example ?? [])], { seed: 5, dtype });
  return modality === 'audio' ? { features: x } : { pixels: x };
}

export const answer = (network: EncoderNetwork, input: EncoderInput, context = plain): Float64Array =>
  scope(() => values(noGrad(() => network.forward(input, context))));

/** Every weight of a network by path. */
export const bits = (network: EncoderNetwork): Map<string, Float64Array> =>
  scope(() => new Map([...network.namedParameters()].map(([name, x]) => [name, values(x instanceof PackedWeight ? x.unpack() : x)])));

export const trained = (set: AdapterSet): number => set.table().reduce((total, { parameters }) => total + parameters, 0);
