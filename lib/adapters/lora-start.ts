import { ConfigError, throwIfAborted } from '../errors.js';
import type { AnyInit, Start, StartLayer } from '../inits/init.js';
import { resolveInit } from '../inits/registry.js';
import { isIdle } from '../models/encoder.js';
import { Linear } from '../nn/linear.js';
import { clone } from '../ops/elementwise.js';
import { PackedWeight } from '../ops/linalg.js';
import { keep } from '../scope.js';
import type { CreateContext, Preparation, Target } from './adapter.js';
import { DoraLinear } from './dora-linear.js';
import { foundStarts, noInitial } from './initial-factors.js';
import { createLora, rankAndScale } from './lora.js';
import type { LoraConfig } from './lora-config.js';
import { LoraLinear } from './lora-linear.js';
import { checkPatternKeys, fromPattern, type Pattern } from './patterns.js';
import { checkSplittable, TakenPair } from './taken-pair.js';

/** Runs the initialisation of the config over the weights or data, or takes what it found before; undefined where neither is needed. */
export async function prepareLora(
  all: readonly Target[],
  config: LoraConfig,
  context: CreateContext,
): Promise<Preparation<LoraConfig> | undefined> {
  // What looks at data sees nothing of a layer that does not run, which then gets no adapter.
  const targets = all.filter(({ path }) => !(resolveInit(config.init)?.method.usesData && isIdle(context.network, path)));
  const init = resolveInit(config.init);
  if (init === undefined && context.initial !== undefined) throw noInitial('lora');
  if (init === undefined) return undefined;
  const { method, options } = init;
  if (context.loading && !method.changesBase) return undefined;
  warnOfPlain(targets, method);
  const { initial } = context;
  const needsData = method.usesData && (method.needsData?.(options) ?? true);
  if (initial === undefined && needsData) requireData(`lora: init "${method.name}"`, context);
  if (initial !== undefined && method.formedFromFactors?.(options) === false)
    throw new ConfigError(`lora: init "${method.name}" leaves weights that do not follow from its factors; expected no "initial"`);
  checkPatternKeys('lora', targets, config);
  const layers = targets.flatMap((target) => startLayer(target, config, method) ?? []);
  const begun = initial === undefined ? method.start(layers, options, context) : foundStarts(layers, initial, method, context.dtype);
  const starts = await startsByPath(closing(begun, context), release, context.signal);
  const dispose = (): void => {
    for (const start of starts.values()) release(start);
    starts.clear();
  };
  try {
    const lost = layers.find(({ path }) => !starts.has(path));
    if (lost !== undefined) throw new ConfigError(`lora: the initialisation found nothing for "${lost.path}"`);
    const found = withStarts(config, targets, starts);
    const adapted = targets.filter(({ path }) => starts.get(path)?.a.shape[0] !== 0);
    return {
      config: found,
      targets: adapted.length === all.length ? all : adapted,
      create: (target) => {
        const start = starts.get(target.path);
        if (start === undefined) return createLora(target, found, context);
        const module = startedModule(target, start, found, context);
        starts.delete(target.path);
        return module;
      },
      dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** Throws `ConfigError` where `attach` got no data for an initialisation that looks at them. */
export function requireData(what: string, { data }: CreateContext): void {
  if (data === undefined) throw new ConfigError(`${what} looks at data; expected batches in the option "data" of attach`);
}

/** What an initialisation finds; behind it nothing more is read of the data. */
export async function* closing<S>(found: AsyncIterable<S> | Iterable<S>, { data }: Pick<CreateContext, 'data'>): AsyncGenerator<S> {
  try {
    yield* found;
  } finally {
    await data?.close();
  }
}

/** What an initialisation finds, by path; nothing of it stays where it fails. */
export async function startsByPath<S extends { readonly path: string }>(
  found: AsyncIterable<S> | Iterable<S>,
  release: (start: S) => void,
  signal: AbortSignal | undefined,
): Promise<Map<string, S>> {
  const starts = new Map<string, S>();
  try {
    for await (const start of found) {
      starts.set(start.path, start);
      throwIfAborted(signal, 'attach');
    }
    return starts;
  } catch (error) {
    for (const start of starts.values()) release(start);
    throw error;
  }
}

/** Throws `ConfigError` for a rank above `most`, which the weight of a layer does not have. */
export function requireRank(
  what: string,
  { path, layer }: { readonly path: string; readonly layer: Linear },
  rank: number,
  most: number,
): void {
  if (rank > most)
    throw new ConfigError(
      `${what} cannot give "${path}" rank ${rank}; its weight is [${layer.outFeatures}, ${layer.inFeatures}], expected at most ${most}`,
    );
}

/** Warns of targets that are no linear layers: where the base is left alone, they start as in plain LoRA. */
function warnOfPlain(targets: readonly Target[], { name, changesBase }: AnyInit): void {
  const plain = targets.filter(({ layer }) => !(layer instanceof Linear));
  if (changesBase || plain.length === 0) return;
  process.emitWarning(
    `lora: init "${name}" starts linear layers, other targets start as in plain LoRA; got ${plain.length} of these, the first "${plain[0]?.path}"`,
    'LorikeetWarning',
  );
}

function startLayer({ path, layer }: Target, config: LoraConfig, method: AnyInit): StartLayer | undefined {
  if (!(layer instanceof Linear)) {
    if (!method.changesBase) return undefined;
    throw new ConfigError(`lora: init "${method.name}" starts linear layers; got target "${path}" (${layer.constructor.name})`);
  }
  const { rank, alpha, scale } = rankAndScale(config, path);
  if (method.changesBase && !(scale > 0))
    throw new ConfigError(
      `lora: init "${method.name}" divides by the scale of the branch; got alpha ${alpha} on "${path}", expected one above 0`,
    );
  const most = method.changesBase ? Math.min(layer.inFeatures, layer.outFeatures) : layer.inFeatures;
  requireRank(`lora: init "${method.name}"`, { path, layer }, rank, most);
  if (method.changesBase) checkSplittable(path, layer, `lora: init "${method.name}"`);
  return {
    path,
    layer,
    rank,
    alpha,
    scale,
    dropout: config.dropout,
    alphaAt: (other) => alpha * (config.rsLora ? Math.sqrt(other / rank) : other / rank),
  };
}

function release({ a, b, base }: Start): void {
  a.dispose();
  b.dispose();
  if (base instanceof PackedWeight) base.dispose();
}

/** The config with the ranks and alphas that were found. Where one is not the configured one, the patterns name every deviating layer by its path. */
function withStarts(config: LoraConfig, targets: readonly Target[], starts: ReadonlyMap<string, Start>): LoraConfig {
  const ranks = new Map<string, number>();
  const alphas = new Map<string, number>();
  let same = true;
  for (const { path } of targets) {
    const start = starts.get(path);
    const { rank, alpha } = rankAndScale(config, path);
    const found = start?.a.shape[0] ?? rank;
    same &&= found === rank && start?.alpha === undefined;
    if (found === 0) continue;
    ranks.set(path, found);
    alphas.set(path, start?.alpha ?? alpha);
  }
  return same ? config : { ...config, rankPattern: patternOf(ranks, config.rank), alphaPattern: patternOf(alphas, config.alpha) };
}

/** The pattern that gives each path its value: an entry for each that deviates; for every one where such an entry would fit a longer path too. */
function patternOf(values: ReadonlyMap<string, number>, usual: number): Pattern {
  const longestFirst = [...values].sort(([a], [b]) => b.length - a.length);
  const pattern = Object.fromEntries(longestFirst.filter(([, value]) => value !== usual));
  return longestFirst.every(([path, value]) => fromPattern(pattern, path, usual) === value) ? pattern : Object.fromEntries(longestFirst);
}

function startedModule({ path, layer }: Target, start: Start, config: LoraConfig, context: CreateContext): LoraLinear | DoraLinear {
  const { scale } = rankAndScale(config, path);
  const { a, b, base = 'kept' } = start;
  const linear = layer as Linear;
  const [forA, forB] = [
    [a.shape[0], linear.inFeatures],
    [linear.outFeatures, a.shape[0]],
  ];
  if (String(a.shape) !== String(forA) || String(b.shape) !== String(forB))
    throw new ConfigError(
      `lora: the factors of "${path}" do not fit; got [${a.shape.join(', ')}] and [${b.shape.join(', ')}], ` +
        `expected [${forA.join(', ')}] and [${forB.join(', ')}]`,
    );
  const taken =
    base === 'kept' ? undefined : new TakenPair(keep(clone(a)), keep(clone(b)), scale, base instanceof PackedWeight ? base : undefined);
  for (const factor of [a, b]) keep(factor).setRequiresGrad(true);
  const options = { scale, dropout: config.dropout, seed: context.seed, path };
  return config.dora ? new DoraLinear(a, b, options, linear) : new LoraLinear(a, b, undefined, options, taken);
}
