import type { JsonObject } from '../io/json.js';
import type { AdapterMethod, AnyMethod } from './adapter.js';
import { binary } from './binary.js';
import { bitFit } from './bitfit.js';
import { blockAdapter } from './block-adapter.js';
import { bottleneck } from './bottleneck.js';
import { deepPrompt } from './deep-prompt.js';
import { full } from './full.js';
import { hydra } from './hydra.js';
import { linearProbe } from './linear-probe.js';
import { lora } from './lora.js';
import { loraXs } from './lora-xs.js';
import { mixtureOfAdapters } from './mixture-of-adapters.js';
import { mosa } from './mosa.js';
import { pTuning } from './p-tuning.js';
import { poly } from './poly.js';
import { prefix } from './prefix.js';
import { prompt } from './prompt.js';
import { sharedLora } from './shared-lora.js';

/** Every adapter method. Types, recipes, checkpoint loading and the common tests are derived from this object. */
export const adapters = {
  binary,
  hydra,
  lora,
  'lora-xs': loraXs,
  mosa,
  bottleneck,
  prefix,
  prompt,
  'p-tuning': pTuning,
  poly,
  'shared-lora': sharedLora,
  'block-adapter': blockAdapter,
  'mixture-of-adapters': mixtureOfAdapters,
  'deep-prompt': deepPrompt,
  bitfit: bitFit,
  'linear-probe': linearProbe,
  full,
  // biome-ignore lint/suspicious/noExplicitAny: each method has its own config
} as const satisfies { readonly [Name in string]: AdapterMethod<Name, any> };

export type AdapterName = keyof typeof adapters;
/** The complete config of a method. */
export type ConfigOf<Name extends AdapterName> = (typeof adapters)[Name] extends AdapterMethod<Name, infer Config> ? Config : never;
/** What `attach` takes: the method's name and any of its options. */
export type AdapterConfig = { [Name in AdapterName]: { readonly type: Name } & Partial<ConfigOf<Name>> }[AdapterName];

export const adapterNames = Object.keys(adapters) as AdapterName[];

export function isAdapterName(name: unknown): name is AdapterName {
  return typeof name === 'string' && Object.hasOwn(adapters, name);
}

/** The method of that name. */
export function methodOf(name: AdapterName): AnyMethod {
  return adapters[name];
}

/** The method whose files these are, by `peft_type`, config and the names of their tensors: one that recognises them as its own, else the one that has the type for itself. */
export function methodOfPeft(type: string, file: JsonObject, tensors: readonly string[]): AnyMethod | undefined {
  const methods = (Object.values(adapters) as AnyMethod[]).filter(
    ({ peftType, peftVariants = {} }) => peftType === type || Object.hasOwn(peftVariants, type),
  );
  return methods.find(({ peft }) => peft?.recognises?.(file, tensors)) ?? methods.find(({ peft }) => peft?.recognises === undefined);
}
