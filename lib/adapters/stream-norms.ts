import { EncoderNetwork } from '../models/encoder.js';
import type { Module } from '../nn/module.js';
import type { SublayerPoint } from '../nn/sublayer.js';
import type { CommonConfig, CreateContext, Placement, Target } from './adapter.js';
import { isSavedWhole } from './targets.js';
import { TrainedCopy } from './trained-copy.js';

const isBelow = (path: string, root: string): boolean => root !== '' && path.startsWith(`${root}.`);

/** Whether a layer is, or belongs to, a head. */
export function isOfHead(network: Module, { path, role }: Pick<Target, 'path' | 'role'>): boolean {
  const heads = network instanceof EncoderNetwork ? network.startable : [];
  return role === 'head' || heads.some((head) => path === head || isBelow(path, head));
}

/** The norms over the stream of `width` numbers inside a block: in pre-norm blocks those in front of its sub-layers, in post-norm blocks those behind them. */
function normsOfBlock(layers: readonly Target[], block: string, width: number, points: readonly SublayerPoint[]): Target[] {
  const norms = layers.filter(
    ({ path, role, layer }) => role === 'norm' && isBelow(path, block) && layer.parameterShapes().weight?.[0] === width,
  );
  // Where both sub-layers read the same norm, it belongs to both.
  const half = Math.ceil(norms.length / 2);
  const own = { attention: norms.slice(0, half), mlp: norms.slice(norms.length - half) };
  return norms.filter((norm) => points.some((point) => own[point].includes(norm)));
}

/** The norms behind the last block, heads left aside. */
export function finalNorms(layers: readonly Target[], network: Module): Target[] {
  const blocks = layers.filter(({ role }) => role === 'block').map(({ path }) => path);
  const last = layers.findLastIndex(({ path }) => blocks.some((block) => path === block || isBelow(path, block)));
  return layers.slice(last + 1).filter((target) => target.role === 'norm' && !isOfHead(network, target));
}

/** Copies to be trained of the norms at the sub-layers of the targeted blocks, and of those behind the last block. */
export function trainedNorms(
  layers: readonly Target[],
  blocks: readonly Target[],
  config: CommonConfig,
  context: CreateContext,
  points: readonly SublayerPoint[],
  width: (block: Target) => number,
): Placement[] {
  const norms = [
    ...blocks.flatMap((block) => normsOfBlock(layers, block.path, width(block), points)),
    ...finalNorms(layers, context.network),
  ];
  return norms
    .filter(({ path }) => !isSavedWhole(config, path))
    .map(({ path, layer }) => ({ path, module: new TrainedCopy(layer, context.dtype) }));
}
