import type { ExecutionContext } from 'ava';
import { type AdapterSet, type AttachOptions, attach, type LoraConfig, scope, type Tensor } from 'lorikeet';
import { loadSafetensors } from 'lorikeet/io';
import { svd } from 'lorikeet/linalg';
import { add, cast, clone, matmul, mul, transpose } from 'lorikeet/ops';
import type { AdaptedLayer } from '#dist/adapters/adapted-layer.js';
import { Linear, Module } from '#dist/nn/index.js';
import type { PackedWeight } from '#dist/ops/linalg.js';
import { apart, largest } from './matrices.js';
import { numbers } from './numbers.js';

/** Bare linear layers without bias. */
export class Layers extends Module {
  constructor(weights: Readonly<Record<string, Tensor>>) {
    super();
    for (const [name, weight] of Object.entries(weights)) {
      const [outputs = 0, inputs = 0] = weight.shape;
      const layer = new Linear(inputs, outputs, { bias: false, init: 'none' });
      layer.assign('weight', clone(weight));
      Object.assign(this, { [name]: layer });
    }
  }
}

/** A layer as an initialisation left it. */
export interface Started {
  readonly a: Tensor;
  readonly b: Tensor;
  readonly base: PackedWeight;
  /** s = alpha / R, or alpha / sqrt(R). */
  readonly scale: number;
}

export type LoraOptions = Partial<LoraConfig> & Pick<LoraConfig, 'rank' | 'init'>;

/** Puts LoRA on layers with these weights; alpha is the rank unless it is given. */
export async function startLayers<Name extends string>(
  weights: Readonly<Record<Name, Tensor>>,
  options: LoraOptions,
  attaching: AttachOptions = {},
): Promise<{ network: Layers; set: AdapterSet; layers: Record<Name, Started> }> {
  const network = new Layers(weights);
  const { rank, alpha = rank, rsLora = false } = options;
  const set = await attach(network, { type: 'lora', targets: Object.keys(weights), ...options, alpha }, attaching);
  const tensors = new Map(set.namedParameters());
  const layers = Object.fromEntries(
    Object.keys(weights).map((name) => [
      name,
      {
        a: tensors.get(`${name}.lora_A.weight`)?.detach(),
        b: tensors.get(`${name}.lora_B.weight`)?.detach(),
        base: ((network.module(name) as AdaptedLayer).base as Linear).weight,
        scale: rsLora ? alpha / Math.sqrt(rank) : alpha / rank,
      },
    ]),
  );
  return { network, set, layers: layers as Record<Name, Started> };
}

/** s B A, in f64. */
export const productOf = ({ a, b, scale }: Started): Tensor => mul(matmul(cast(b, 'f64'), cast(a, 'f64')), scale);

/** The weight that base and pair stand for, in f64. */
export const wholeOf = (started: Started): Tensor => add(cast(started.base.unpack(), 'f64'), productOf(started));

/** The sum of the singular values. */
export const nuclearNorm = async (x: Tensor): Promise<number> => (await numbers(svd(x).s)).reduce((sum, value) => sum + value, 0);

export const frobeniusNorm = async (x: Tensor): Promise<number> => Math.hypot(...(await numbers(x)));

/** How far x xᵀ is from a diagonal matrix with these values. */
export async function fromDiagonal(x: Tensor, values: readonly number[]): Promise<number> {
  const gram = await numbers(matmul(x, transpose(x)));
  return Math.max(
    ...gram.map((value, at) => Math.abs(value - (at % (values.length + 1) === 0 ? (values[at / (values.length + 1)] ?? 0) : 0))),
  );
}

/** The largest relative difference of two matrices whose rows may differ in sign. */
export async function apartUpToSigns(got: Tensor, expected: Tensor): Promise<number> {
  const [ours, theirs] = [await numbers(got), await numbers(expected)];
  const width = expected.shape[1] ?? 0;
  let worst = 0;
  for (let row = 0; row < theirs.length; row += width) {
    const [one, other] = [ours.slice(row, row + width), theirs.slice(row, row + width)];
    const sign = Math.sign(one.reduce((sum, value, i) => sum + value * (other[i] ?? 0), 0));
    for (const [i, value] of one.entries()) worst = Math.max(worst, Math.abs(sign * value - (other[i] ?? 0)));
  }
  return got.size === expected.size ? worst / (await largest(expected)) : Number.POSITIVE_INFINITY;
}

/** What scripts/golden/inits.py recorded. */
export const goldenInit = (name: string): Promise<Map<string, Tensor>> => loadSafetensors(`test/golden/inits/${name}.safetensors`);

export const goldenLayers = ['tall', 'wide', 'square'] as const;

/** The layers that PEFT initialised, before. */
export async function goldenWeights(): Promise<Record<(typeof goldenLayers)[number], Tensor>> {
  const all = await goldenInit('weights');
  return Object.fromEntries(goldenLayers.map((name) => [name, all.get(name)])) as Record<(typeof goldenLayers)[number], Tensor>;
}

/** A trained layer [256, 256] of the DIGITS-MLP. */
export const digitsLayer = async (): Promise<Tensor> => (await goldenInit('weights')).get('digits') as Tensor;

/** The recorded cases of an initialisation in PEFT, of rank 4, and their alpha. */
export const goldenScales = [
  ['plain', 4],
  ['scaled', 6],
] as const;

/** Pair and rest on every recorded layer are PEFT's, to 1e-4 and up to signs. */
export function sameAsPeft(t: ExecutionContext, init: 'pissa' | 'olora', name: string, alpha: number): Promise<void> {
  return scope(async () => {
    const golden = await goldenInit(init);
    const { layers, set } = await startLayers(await goldenWeights(), { rank: 4, alpha, init });
    for (const layer of goldenLayers) {
      const { a, b, base } = layers[layer];
      const expected = (end: string): Tensor => golden.get(`${name}.${layer}.${end}`) as Tensor;
      t.true((await apartUpToSigns(a, expected('A'))) < 1e-4, layer);
      t.true((await apartUpToSigns(transpose(b), transpose(expected('B')))) < 1e-4, layer);
      t.true((await apart(base.unpack(), expected('base'))) < 1e-4 * (await largest(expected('base'))), layer);
    }
    set.dispose();
  });
}
