import { ConfigError, didYouMean } from '../errors.js';
import { type LoraSbOptions, loraSbDefaults } from './lora-sb.js';

/** Options of the start from the weights themselves. */
export interface PrincipalOptions {
  /** Power steps of the randomised decomposition; null for the exact one. Default 10. */
  niter: number | null;
}

const defaults = {
  svd: { niter: 10 } as PrincipalOptions,
  random: {},
  'lora-sb': loraSbDefaults,
} as const;

type Defaults = typeof defaults;
type LatentInitName = keyof Defaults;

/** How LoRA-XS starts: a name, or a name with any of its options. */
export type LatentInit = LatentInitName | { [Name in LatentInitName]: { readonly type: Name } & Partial<Defaults[Name]> }[LatentInitName];

/** A start and all its options. */
export type ResolvedLatentInit =
  | { readonly type: 'svd'; readonly options: PrincipalOptions }
  | { readonly type: 'random'; readonly options: object }
  | { readonly type: 'lora-sb'; readonly options: LoraSbOptions };

/** The start that a config names, with its defaults filled in. Throws `ConfigError` for an unknown one or an unknown option. */
export function resolveLatentInit(init: unknown): ResolvedLatentInit {
  const { type, ...given } = (typeof init === 'string' ? { type: init } : (init ?? {})) as Readonly<Record<string, unknown>>;
  if (typeof type !== 'string' || !Object.hasOwn(defaults, type)) {
    const names = Object.keys(defaults);
    throw new ConfigError(
      `lora-xs: unknown init; got ${JSON.stringify(init) ?? 'nothing'}, expected ${names.map((name) => `"${name}"`).join(', ')}${didYouMean(String(type), names)}`,
    );
  }
  const own = defaults[type as LatentInitName];
  for (const key of Object.keys(given))
    if (!Object.hasOwn(own, key))
      throw new ConfigError(`lora-xs: init "${type}" has no option "${key}"${didYouMean(key, Object.keys(own))}`);
  return { type, options: { ...own, ...given } } as ResolvedLatentInit;
}
