import { type ForwardContext, inference } from '../nn/context.js';
import { joinPrefixes, type KeyValuePrefix } from '../nn/prefix.js';
import type { AdapterModule } from './adapter.js';
import type { Run } from './row-routing.js';

/** Whether keys and values go in front now: a cache that holds tokens holds them too. */
const isDue = (context: ForwardContext | undefined, modules: readonly AdapterModule[]): boolean =>
  context?.cache?.isEmpty !== false && modules.some((module) => module.prefix !== undefined);

/** The prefixes of some modules, each made once. */
class Prefixes {
  readonly #training: boolean;
  readonly #made = new Map<AdapterModule, KeyValuePrefix>();

  constructor(training: boolean) {
    this.#training = training;
  }

  of(modules: readonly AdapterModule[]): KeyValuePrefix[] {
    return modules.flatMap((module) => {
      const prefix = this.#made.get(module) ?? module.prefix?.(this.#training);
      if (prefix !== undefined) this.#made.set(module, prefix);
      return prefix ?? [];
    });
  }
}

/** The context of an attention layer on a batch of B rows with these modules: their keys and values stand in front. */
export function inFront(context: ForwardContext | undefined, modules: readonly AdapterModule[], batch: number): ForwardContext | undefined {
  if (!isDue(context, modules)) return context;
  const own = new Prefixes(context?.training ?? false).of(modules);
  const prefix = joinPrefixes([context?.prefix, ...own], batch);
  return { ...(context ?? inference), ...(prefix && { prefix }) };
}

/** The same for a batch whose rows have different adapters. */
export function inFrontByRow(context: ForwardContext | undefined, rows: readonly Run[]): ForwardContext | undefined {
  if (!rows.some(({ adapters }) => isDue(context, adapters))) return context;
  const prefixes = new Prefixes(context?.training ?? false);
  const own = rows.map(({ adapters }) => joinPrefixes(prefixes.of(adapters), 1) as KeyValuePrefix | undefined);
  const prefix = joinPrefixes([context?.prefix, own], rows.length);
  return { ...(context ?? inference), ...(prefix && { prefix }) };
}
