import type { EncoderModel } from '../encoder-model.js';
import { ConfigError, throwIfAborted } from '../errors.js';
import { Calibration } from '../inits/calibration.js';
import { isLanguageModel, type Model } from '../model.js';
import type { Module } from '../nn/module.js';
import { TokenNetwork } from '../nn/virtual-tokens.js';
import { hashName } from '../random.js';
import { disposeTensors } from '../scope.js';
import type { AdapterModule, AnyMethod, CommonConfig, CreateContext, Placement, Target } from './adapter.js';
import type { AdapterSet, AttachOptions } from './adapter-set.js';
import { readInitialFactors } from './initial-factors.js';
import { candidatesOf, layersOf } from './inject.js';
import { targetOptions } from './resolve-config.js';
import { isSavedWhole, portableTargets, selectModulesToSave, selectTargets } from './targets.js';
import { parametersOf, TrainedCopy } from './trained-copy.js';
import { kItself, kWhole } from './whole-network.js';

/** What the modules of a new adapter get to know. `model`: the model that the network belongs to, if it does. */
export async function contextOf(
  { network, dtype }: AdapterSet,
  options: AttachOptions,
  model: Model | EncoderModel | undefined,
  loading: boolean,
): Promise<CreateContext> {
  return {
    dtype,
    seed: options.seed ?? 0,
    stream: (path, name) => hashName(`${path}.${name}`),
    signal: options.signal,
    network,
    data:
      options.data === undefined
        ? undefined
        : Calibration.of(options.data, model !== undefined && isLanguageModel(model) ? model : undefined),
    onProgress: (progress) => options.onProgress?.(progress),
    initial: options.initial === undefined ? undefined : await readInitialFactors(options.initial),
    loading,
    tokenizer: model?.hasTokenizer ? model.tokenizer : undefined,
  };
}

/** The modules of a new adapter, before they are on the network. */
export interface CreatedPlacements {
  /** The config as it is from here on, with the ranks that were found. */
  readonly config: CommonConfig;
  readonly placements: readonly Placement[];
  /** The targets as a file would hold them. */
  readonly targets: string | readonly string[];
}

/**
 * Makes the modules of an adapter for the targets of its config, and leaves the network as it is. `bare` runs work while the network computes as if it had no
 * adapters. Releases the initial factors of the context.
 */
export async function createPlacements(
  method: AnyMethod,
  given: CommonConfig,
  context: CreateContext,
  bare: <T>(work: () => T | Promise<T>) => Promise<T>,
): Promise<CreatedPlacements> {
  const { network, signal } = context;
  if (method.whole !== undefined) return createWhole(method, given, context);
  try {
    const layers = layersOf(network);
    const candidates = candidatesOf(network, method);
    const wanted = targetOptions(method, given);
    const selected = selectTargets(method.name, candidates, wanted);
    const prepared = await bare(() => method.prepare?.(selected, given, context));
    const { config = given, targets = selected } = prepared ?? {};
    const placements: Placement[] = [];
    try {
      for (const target of targets) {
        throwIfAborted(signal, 'attach');
        const module = prepared === undefined ? await createOn(method, target, config, context) : prepared.create(target);
        placements.push({ path: target.path === kItself ? kWhole : target.path, module });
        if (prepared === undefined) context.onProgress({ done: placements.length, total: targets.length, path: target.path });
      }
      for (const placement of (await method.extras?.(layers, targets, config, context)) ?? []) placements.push(placement);
      placements.push(...savedWhole(network, method, config, layers, context));
      throwIfAborted(signal, 'attach');
    } catch (error) {
      for (const { module } of placements) module.dispose();
      throw error;
    } finally {
      prepared?.dispose();
    }
    const named = targets === selected ? wanted : { ...wanted, targets: targets.map(({ path }) => path) };
    return { config, placements, targets: portableTargets(named, candidates) };
  } finally {
    disposeTensors(context.initial?.tensors.values() ?? []);
  }
}

function createOn(method: AnyMethod, target: Target, config: CommonConfig, context: CreateContext): AdapterModule | Promise<AdapterModule> {
  const { create } = method;
  if (create === undefined) throw new ConfigError(`${method.name}: makes no module for a layer; got "${target.path}"`);
  return create(target, config, context);
}

const kOptionsOfTargets = ['targets', 'exclude', 'layersToTransform', 'layersPattern'] as const;

/** The module of a method without targets, and copies of the modules that `modulesToSave` means. */
async function createWhole(method: AnyMethod, config: CommonConfig, context: CreateContext): Promise<CreatedPlacements> {
  const { network } = context;
  for (const option of kOptionsOfTargets) {
    if (config[option] !== null)
      throw new ConfigError(`${method.name}: belongs to the whole model; got ${option} ${JSON.stringify(config[option])}, expected none`);
  }
  if (!(network instanceof TokenNetwork))
    throw new ConfigError(
      `${method.name}: stands in front of the tokens of a language model or an encoder; got ${network.constructor.name}`,
    );
  const layers = layersOf(network);
  const placements: Placement[] = [{ path: kWhole, module: (await method.whole?.(network, config, context)) as AdapterModule }];
  try {
    placements.push(...((await method.extras?.(layers, [], config, context)) ?? []));
    placements.push(...savedWhole(network, method, config, layers, context));
    return { config, placements, targets: [] };
  } catch (error) {
    for (const { module } of placements) module.dispose();
    throw error;
  }
}

/** Copies of the layers with parameters in the modules that `modulesToSave` means. */
function savedWhole(
  network: Module,
  method: AnyMethod,
  config: CommonConfig,
  layers: readonly Target[],
  { dtype }: CreateContext,
): Placement[] {
  if (config.modulesToSave === null) return [];
  const modules = [...network.namedModules()].flatMap(([path, module]) => (path === '' ? [] : [{ path, kind: 'other' as const, module }]));
  selectModulesToSave(method.name, modules, config.modulesToSave, config.allowUnmatched);
  return layers
    .filter(({ path, layer }) => parametersOf(layer).size > 0 && isSavedWhole(config, path))
    .map(({ path, layer }) => ({ path, module: new TrainedCopy(layer, dtype) }));
}
