import { ConfigError, throwIfAborted } from '../errors.js';
import type { AnyInit, Start, StartLayer } from '../inits/init.js';
import { resolveInit } from '../inits/registry.js';
import { Linear } from '../nn/linear.js';
import { clone } from '../ops/elementwise.js';
import { PackedWeight } from '../ops/linalg.js';
import { keep } from '../scope.js';
import type { CreateContext, Preparation, Target } from './adapter.js';
import { foundStarts, noInitial } from './initial-factors.js';
import { createLora, rankAndScale } from './lora.js';
import type { LoraConfig } from './lora-config.js';
import { LoraLinear } from './lora-linear.js';
import type { Pattern } from './patterns.js';
import { checkSplittable, TakenPair } from './taken-pair.js';

/** Runs the initialisation of the config over the weights or data, or takes what it found before; undefined where neither is needed. */
export async function prepareLora(
  targets: readonly Target[],
  config: LoraConfig,
  context: CreateContext,
): Promise<Preparation<LoraConfig> | undefined> {
  const init = resolveInit(config.init);
  if (init === undefined && context.initial !== undefined) throw noInitial('lora');
  if (init === undefined) return undefined;
  const { method, options } = init;
  if (context.loading && !method.changesBase) return undefined;
  const { initial } = context;
  if (initial === undefined && method.usesData && context.data === undefined)
    throw new ConfigError(`lora: init "${method.name}" looks at data; expected batches in the option "data" of attach`);
  if (initial !== undefined && method.formedFromFactors?.(options) === false)
    throw new ConfigError(`lora: init "${method.name}" leaves weights that do not follow from its factors; expected no "initial"`);
  const layers = targets.flatMap((target) => startLayer(target, config, method) ?? []);
  const starts = new Map<string, Start>();
  try {
    const begun = initial === undefined ? method.start(layers, options, context) : foundStarts(layers, initial, method, context.dtype);
    for await (const start of begun) {
      starts.set(start.path, start);
      throwIfAborted(context.signal, 'attach');
    }
  } catch (error) {
    for (const start of starts.values()) release(start);
    throw error;
  }
  const found = withStarts(config, layers, starts);
  return {
    config: found,
    targets: targets.filter(({ path }) => starts.get(path)?.a.shape[0] !== 0),
    create: (target) => {
      const start = starts.get(target.path);
      if (start === undefined) return createLora(target, found, context);
      starts.delete(target.path);
      return startedModule(target, start, found, context);
    },
    dispose: () => {
      for (const start of starts.values()) release(start);
    },
  };
}

function startLayer({ path, layer }: Target, config: LoraConfig, method: AnyInit): StartLayer | undefined {
  if (!(layer instanceof Linear)) {
    // Where the base is left alone, another kind of layer starts as in plain LoRA.
    if (!method.changesBase) return undefined;
    throw new ConfigError(`lora: init "${method.name}" starts linear layers; got target "${path}" (${layer.constructor.name})`);
  }
  const { rank, scale } = rankAndScale(config, path);
  const most = Math.min(layer.inFeatures, layer.outFeatures);
  if (rank > most)
    throw new ConfigError(
      `lora: init "${method.name}" cannot give "${path}" rank ${rank}; its weight is [${layer.outFeatures}, ${layer.inFeatures}], expected at most ${most}`,
    );
  if (method.changesBase) checkSplittable(path, layer, `lora: init "${method.name}"`);
  return { path, layer, rank, alpha: scale * (config.rsLora ? Math.sqrt(rank) : rank), scale, dropout: config.dropout };
}

function release({ a, b, base }: Start): void {
  a.dispose();
  b.dispose();
  if (base instanceof PackedWeight) base.dispose();
}

/** The config with the ranks and alphas that were found, where they are not the configured ones. */
function withStarts(config: LoraConfig, layers: readonly StartLayer[], starts: ReadonlyMap<string, Start>): LoraConfig {
  const ranks: Record<string, number> = {};
  const alphas: Record<string, number> = {};
  for (const { path, rank } of layers) {
    const start = starts.get(path);
    if (start === undefined) throw new ConfigError(`lora: the initialisation found nothing for "${path}"`);
    const found = start.a.shape[0] ?? 0;
    if (found !== rank && found > 0) ranks[path] = found;
    if (start.alpha !== undefined && found > 0) alphas[path] = start.alpha;
  }
  return { ...config, rankPattern: over(ranks, config.rankPattern), alphaPattern: over(alphas, config.alphaPattern) };
}

/** Entries for whole paths before the given ones: the first that fits decides. */
function over(found: Record<string, number>, given: Pattern): Pattern {
  return { ...found, ...Object.fromEntries(Object.entries(given).filter(([key]) => !Object.hasOwn(found, key))) };
}

function startedModule({ path, layer }: Target, start: Start, config: LoraConfig, context: CreateContext): LoraLinear {
  const { scale } = rankAndScale(config, path);
  const { a, b, base = 'kept' } = start;
  const linear = layer as Linear;
  if (String(a.shape) !== String([a.shape[0], linear.inFeatures]) || String(b.shape) !== String([linear.outFeatures, a.shape[0]]))
    throw new ConfigError(`lora: the factors of "${path}" do not fit; got [${a.shape.join(', ')}] and [${b.shape.join(', ')}]`);
  const taken =
    base === 'kept' ? undefined : new TakenPair(keep(clone(a)), keep(clone(b)), scale, base instanceof PackedWeight ? base : undefined);
  for (const factor of [a, b]) keep(factor).setRequiresGrad(true);
  return new LoraLinear(a, b, undefined, { scale, dropout: config.dropout, seed: context.seed, path }, taken);
}
