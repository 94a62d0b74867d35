import type { AdapterMethod, AnyMethod } from './adapter.js';
import { lora } from './lora.js';

/** Every adapter method. Types, recipes, checkpoint loading and the common tests are derived from this object. */
export const adapters = {
  lora,
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

/** The method whose published files carry this `peft_type`, or that reads them. */
export function methodOfPeftType(type: string): AnyMethod | undefined {
  return (Object.values(adapters) as AnyMethod[]).find(
    ({ peftType, peftVariants = {} }) => peftType === type || Object.hasOwn(peftVariants, type),
  );
}
