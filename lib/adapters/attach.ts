import { EncoderModel } from '../encoder-model.js';
import { Model } from '../model.js';
import type { EncoderTask } from '../models/encoder.js';
import type { Module } from '../nn/module.js';
import type { AdapterMethod, CommonConfig } from './adapter.js';
import { AdapterSet, type AttachOptions, adaptersOn } from './adapter-set.js';
import type { AdapterConfig } from './registry.js';
import { type ResolvedConfig, resolveConfig, resolveOptions } from './resolve-config.js';
import { withHead } from './trained-head.js';
import { TunedEncoder } from './tuned-encoder.js';
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
 * An encoder with a head of classes or values gives a `TunedEncoder`, and its head is trained and saved with the adapter unless `modulesToSave` says otherwise.
 * A network of one's own made of `lorikeet/nn` modules gets an `AdapterSet`.
 * Throws `ConfigError` for options that cannot work, `AdapterError` for a name that is taken, `CancelledError` when the signal fires; the model is then as before.
 */
export function attach(model: Model | TunedModel, config: AdapterConfig, options?: AttachOptions): Promise<TunedModel>;
export function attach<T extends EncoderTask>(
  model: EncoderModel<T> | TunedEncoder<T>,
  config: AdapterConfig,
  options?: AttachOptions,
): Promise<TunedEncoder<T>>;
export function attach(network: Module | AdapterSet, config: AdapterConfig, options?: AttachOptions): Promise<AdapterSet>;
export function attach(base: Base, config: AdapterConfig, options?: AttachOptions): Promise<Adapted> {
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
export function attachMethod<Config extends CommonConfig, T extends EncoderTask>(
  model: EncoderModel<T> | TunedEncoder<T>,
  method: AdapterMethod<string, Config>,
  config?: Partial<Config>,
  options?: AttachOptions,
): Promise<TunedEncoder<T>>;
export function attachMethod<Config extends CommonConfig>(
  network: Module | AdapterSet,
  method: AdapterMethod<string, Config>,
  config?: Partial<Config>,
  options?: AttachOptions,
): Promise<AdapterSet>;
export function attachMethod<Config extends CommonConfig>(
  base: Base,
  method: AdapterMethod<string, Config>,
  config: Partial<Config> = {},
  options?: AttachOptions,
): Promise<Adapted> {
  return add(base, () => resolveOptions(method, config as Readonly<Record<string, unknown>>), options);
}

type Base = Model | TunedModel | EncoderModel | TunedEncoder | Module | AdapterSet;
type Adapted = TunedModel | TunedEncoder | AdapterSet;

async function add(base: Base, resolve: () => ResolvedConfig, options: AttachOptions = {}): Promise<Adapted> {
  const resolved = resolve();
  if (base instanceof Model || base instanceof TunedModel) {
    const tuned = TunedModel.of(base);
    await tuned.adapters.add(resolved, options);
    return tuned;
  }
  if (base instanceof EncoderModel || base instanceof TunedEncoder) {
    const tuned = TunedEncoder.of(base);
    await tuned.adapters.add(withHead(resolved, tuned.model), options);
    return tuned;
  }
  const set = base instanceof AdapterSet ? base : (adaptersOn(base) ?? new AdapterSet(base));
  await set.add(resolved, options);
  return set;
}
