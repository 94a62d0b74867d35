import { Model } from '../model.js';
import type { Module } from '../nn/module.js';
import type { AdapterMethod, CommonConfig } from './adapter.js';
import { AdapterSet, type AttachOptions, adaptersOn } from './adapter-set.js';
import type { AdapterConfig } from './registry.js';
import { type ResolvedConfig, resolveConfig, resolveOptions } from './resolve-config.js';
import { TunedModel } from './tuned-model.js';

/**
 * Puts a new adapter onto a model. `config` names the method and any of its options; wrong options of a method do not compile, and throw `ConfigError` where
 * types cannot see them. The base is frozen. The new adapter becomes the active one, alone, unless `activate: false`.
 *
 * ```ts
 * const tuned = await attach(model, { type: 'lora', rank: 16, alpha: 32, targets: ['q_proj', 'v_proj'] }, { name: 'notes', seed: 1 });
 * console.table(tuned.table());
 * ```
 *
 * A network of one's own made of `lorikeet/nn` modules gets an `AdapterSet` instead of a `TunedModel`.
 * Throws `ConfigError` for options that cannot work, `AdapterError` for a name that is taken, `CancelledError` when the signal fires; the model is then as before.
 */
export function attach(model: Model | TunedModel, config: AdapterConfig, options?: AttachOptions): Promise<TunedModel>;
export function attach(network: Module | AdapterSet, config: AdapterConfig, options?: AttachOptions): Promise<AdapterSet>;
export function attach(
  base: Model | TunedModel | Module | AdapterSet,
  config: AdapterConfig,
  options?: AttachOptions,
): Promise<TunedModel | AdapterSet> {
  return add(base, () => resolveConfig(config as unknown as Readonly<Record<string, unknown>>), options);
}

/**
 * Like `attach`, for a method that is not in the registry: one of your own. It can do all that a built-in one can, except to be named in recipes and found by
 * the `peft_type` of a file.
 */
export function attachMethod<Config extends CommonConfig>(
  model: Model | TunedModel,
  method: AdapterMethod<string, Config>,
  config?: Partial<Config>,
  options?: AttachOptions,
): Promise<TunedModel>;
export function attachMethod<Config extends CommonConfig>(
  network: Module | AdapterSet,
  method: AdapterMethod<string, Config>,
  config?: Partial<Config>,
  options?: AttachOptions,
): Promise<AdapterSet>;
export function attachMethod<Config extends CommonConfig>(
  base: Model | TunedModel | Module | AdapterSet,
  method: AdapterMethod<string, Config>,
  config: Partial<Config> = {},
  options?: AttachOptions,
): Promise<TunedModel | AdapterSet> {
  return add(base, () => resolveOptions(method, config as Readonly<Record<string, unknown>>), options);
}

async function add(
  base: Model | TunedModel | Module | AdapterSet,
  resolve: () => ResolvedConfig,
  options: AttachOptions = {},
): Promise<TunedModel | AdapterSet> {
  const resolved = resolve();
  if (base instanceof Model || base instanceof TunedModel) {
    const tuned = TunedModel.of(base);
    await tuned.adapters.add(resolved, options);
    return tuned;
  }
  const set = base instanceof AdapterSet ? base : (adaptersOn(base) ?? new AdapterSet(base));
  await set.add(resolved, options);
  return set;
}
