import type { PlainInit } from '../adapters/lora-init.js';
import { ConfigError, didYouMean } from '../errors.js';
import { corda } from './corda.js';
import { eva } from './eva.js';
import type { AnyInit, InitMethod } from './init.js';
import { loftq } from './loftq.js';
import { loraGa } from './lora-ga.js';
import { olora } from './olora.js';
import { pissa } from './pissa.js';

/** Every initialisation of LoRA that looks at weights or data. Types, recipes and the common tests are derived from this object. */
export const inits = {
  pissa,
  'lora-ga': loraGa,
  olora,
  loftq,
  eva,
  corda,
  // biome-ignore lint/suspicious/noExplicitAny: each initialisation has its own options
} as const satisfies { readonly [Name in string]: InitMethod<Name, any> };

export type InitName = keyof typeof inits;
type OptionsOf<Name extends InitName> = (typeof inits)[Name] extends InitMethod<Name, infer Options> ? Options : never;
/** An initialisation by name with any of its options. */
export type InitConfig = { [Name in InitName]: { readonly type: Name } & Partial<OptionsOf<Name>> }[InitName];

/** An initialisation and all its options. */
export interface ResolvedInit {
  readonly method: AnyInit;
  // biome-ignore lint/suspicious/noExplicitAny: options of whichever method it is
  readonly options: any;
}

const all = (): AnyInit[] => Object.values(inits);
const kPlain = ['gaussian', 'orthogonal'];

/** The starting values of layers that are not looked at: those that a config names, and the default beside an initialisation that looks at others. */
export function plainInit(init: unknown): PlainInit {
  if (typeof init === 'boolean') return init;
  const name = typeof init === 'string' ? init : (init as { readonly type?: unknown } | null)?.type;
  return kPlain.includes(name as string) ? (name as PlainInit) : true;
}

/**
 * The initialisation that a config names, as `'pissa'`, `'pissa_niter_4'` or `{ type: 'pissa', niter: 4 }`, with its defaults filled in; undefined for the plain
 * ones (true, false, `gaussian`, `orthogonal`). Throws `ConfigError` for an unknown one or an unknown option.
 */
export function resolveInit(init: unknown): ResolvedInit | undefined {
  if (typeof init === 'boolean' || kPlain.includes(init as string)) return undefined;
  const given = typeof init === 'string' ? { type: init } : (init as Readonly<Record<string, unknown>> | null);
  if (typeof given !== 'object' || given === null || typeof given.type !== 'string') throw unknown(init);
  const { type, ...options } = given;
  if (kPlain.includes(type) && Object.keys(options).length === 0) return undefined;
  for (const method of all()) {
    const named = method.named(type);
    if (named === undefined) continue;
    const known = Object.keys(method.defaults);
    for (const key of Object.keys(options))
      if (!known.includes(key)) throw new ConfigError(`lora: init "${type}" has no option "${key}"${didYouMean(key, known)}`);
    return { method, options: { ...method.defaults, ...named, ...options } };
  }
  throw unknown(type);
}

function unknown(got: unknown): ConfigError {
  const names = [...kPlain, ...Object.keys(inits)];
  const hint = typeof got === 'string' ? didYouMean(got, names) : '';
  return new ConfigError(
    `lora: unknown init; got ${JSON.stringify(got) ?? 'nothing'}, expected true, false or one of ${names.join(', ')}${hint}`,
  );
}
