import { ConfigError, didYouMean } from '../errors.js';
import { plainInit, resolveInit } from '../inits/registry.js';
import { peftLora } from '../io/peft-lora.js';
import { Conv } from '../nn/conv.js';
import { Embedding } from '../nn/embedding.js';
import { Linear } from '../nn/linear.js';
import type { AdapterMethod, AdapterModule, CreateContext, Placement, Target } from './adapter.js';
import { DoraEmbedding } from './dora-embedding.js';
import { DoraLinear } from './dora-linear.js';
import { checkLora, type LoraConfig, loraConflict, loraDefaults } from './lora-config.js';
import { LoraConv } from './lora-conv.js';
import { LoraEmbedding } from './lora-embedding.js';
import { startConv, startEmbedding, startLinear } from './lora-init.js';
import { LoraLinear } from './lora-linear.js';
import { portableLora, takesOf } from './lora-portable.js';
import { prepareLora } from './lora-start.js';
import { checkPatternKeys, fromPattern } from './patterns.js';
import { isSavedWhole } from './targets.js';
import { TokenHead, TokenRows } from './token-rows.js';
import { parametersOf, TrainedBias, TrainedCopy } from './trained-copy.js';

/** Rank, alpha and scale of the branch on one layer. */
export function rankAndScale(
  config: Pick<LoraConfig, 'rank' | 'alpha' | 'rankPattern' | 'alphaPattern' | 'rsLora'>,
  path: string,
): { rank: number; alpha: number; scale: number } {
  const rank = fromPattern(config.rankPattern, path, config.rank, 'rankPattern');
  const alpha = fromPattern(config.alphaPattern, path, config.alpha, 'alphaPattern');
  return { rank, alpha, scale: config.rsLora ? alpha / Math.sqrt(rank) : alpha / rank };
}

/** The module of one target with plain starting values. */
export function createLora(target: Target, config: LoraConfig, context: CreateContext): AdapterModule {
  const { path, layer } = target;
  const { rank, scale } = rankAndScale(config, path);
  const init = plainInit(config.init);
  if (layer instanceof Linear) {
    const { a, b, bias } = startLinear(path, layer.inFeatures, layer.outFeatures, rank, init, config.loraBias, context);
    const options = { scale, dropout: config.dropout, seed: context.seed, path };
    return config.dora ? new DoraLinear(a, b, options, layer) : new LoraLinear(a, b, bias, options);
  }
  if (layer instanceof Embedding) {
    if (config.loraBias) throw new ConfigError(`lora: loraBias is not available for embeddings; got target "${path}"`);
    const { a, b } = startEmbedding(path, layer.size, layer.width, rank, init, context);
    return config.dora ? new DoraEmbedding(a, b, scale, layer) : new LoraEmbedding(a, b, scale);
  }
  if (layer instanceof Conv) {
    if (config.dora) throw new ConfigError(`lora: dora is not available for convolutions; got target "${path}"`);
    const { a, b, bias } = startConv(path, layer, rank, init, config.loraBias, context);
    return new LoraConv(a, b, bias, { scale, dropout: config.dropout, seed: context.seed, path }, layer);
  }
  throw new ConfigError(`lora: cannot adapt "${path}" (${layer.constructor.name}); it adapts linear layers, embeddings and convolutions`);
}

function* extras(layers: readonly Target[], targets: readonly Target[], config: LoraConfig, context: CreateContext): Iterable<Placement> {
  checkPatternKeys('lora', targets, config);
  if (config.bias !== 'none') yield* biases(layers, targets, config, context);
  if (config.trainableTokenIndices !== null) yield* tokens(layers, targets, config.trainableTokenIndices, context);
}

/** Trained biases: `base_layer.bias` under adapted layers, the layer's own name elsewhere. A model without biases has none, as in PEFT. */
function* biases(layers: readonly Target[], targets: readonly Target[], config: LoraConfig, { dtype }: CreateContext): Iterable<Placement> {
  const adapted = new Set(targets.map(({ path }) => path));
  for (const { path, layer } of layers) {
    if (!parametersOf(layer).has('bias') || isSavedWhole(config, path)) continue;
    if (!adapted.has(path) && config.bias === 'lora_only') continue;
    yield { path, module: adapted.has(path) ? new TrainedBias(layer, dtype) : new TrainedCopy(layer, dtype, ['bias']) };
  }
}

/** Trained rows of embeddings, and of the heads tied to them. */
function* tokens(
  layers: readonly Target[],
  targets: readonly Target[],
  given: NonNullable<LoraConfig['trainableTokenIndices']>,
  { dtype }: CreateContext,
): Iterable<Placement> {
  const wishes = Array.isArray(given) ? { '': given as readonly number[] } : (given as Readonly<Record<string, readonly number[]>>);
  for (const [name, ids] of Object.entries(wishes)) {
    const chosen = layers.filter(
      ({ path, layer, role }) =>
        layer instanceof Embedding && (name === '' ? role === 'embedding' : path === name || path.endsWith(`.${name}`)),
    );
    if (chosen.length === 0) {
      const hint = didYouMean(
        name,
        layers.filter(({ layer }) => layer instanceof Embedding).map(({ path }) => path.slice(path.lastIndexOf('.') + 1)),
      );
      throw new ConfigError(`lora: trainableTokenIndices names no embedding; got "${name}"${hint}`);
    }
    for (const { path, layer } of chosen) {
      if (targets.some((target) => target.path === path))
        throw new ConfigError(`lora: "${path}" is a target and has trainableTokenIndices; expected one of the two`);
      const rows = new TokenRows((layer as Embedding).weight, ids, dtype);
      yield { path, module: rows };
      const tied = layers.filter((other) => other.layer instanceof Linear && other.layer.tiedTo === layer);
      for (const head of tied) yield { path: head.path, module: new TokenHead(rows) };
    }
  }
}

/**
 * LoRA: a trainable low-rank branch beside frozen linear layers, embeddings and convolutions, y += (alpha / rank) * (x Aᵀ) Bᵀ.
 * "LoRA: Low-Rank Adaptation of Large Language Models".
 *
 * ```ts
 * const tuned = await attach(model, { type: 'lora', rank: 16, alpha: 32, targets: 'all-linear' });
 * ```
 */
export const lora = {
  name: 'lora',
  prefix: 'lora_',
  peftType: 'LORA',
  // What the authors of LoRA-GA write.
  peftVariants: { LORAGA: ['bsz', 'iters', 'direction', 'max_length', 'dtype', 'scale', 'stable_gamma'] },
  peft: peftLora,
  defaults: loraDefaults,
  check: checkLora,
  roles: ['attention.query', 'attention.value'],
  kinds: ['linear', 'embedding', 'conv'],
  usesData: (config) => resolveInit(config.init)?.method.usesData ?? false,
  calibration: (config) => resolveInit(config.init)?.options ?? {},
  plain: (config) => ({ ...config, init: plainInit(config.init) }),
  takes: takesOf,
  prepare: prepareLora,
  create: createLora,
  extras,
  portable: portableLora,
  conflict: loraConflict,
} as const satisfies AdapterMethod<'lora', LoraConfig>;
