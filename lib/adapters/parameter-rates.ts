import { AdapterError, ConfigError } from '../errors.js';
import type { Tensor } from '../tensor.js';
import type { AnyMethod, ParameterRate } from './adapter.js';
import type { AdapterSet } from './adapter-set.js';
import type { AdaptedModel, Tuned } from './tuned.js';

/** Parameters with their own learning rate and weight decay, in the form the optimizers take. */
export interface AdapterGroup {
  readonly name: string;
  readonly parameters: Tensor[];
  readonly learningRate: number;
  readonly weightDecay: number;
}

/** Learning rate and weight decay of the parameters for which no method says otherwise. */
export interface AdapterGroupOptions {
  readonly learningRate: number;
  /** Default 0. */
  readonly weightDecay?: number;
}

type Adapters = Pick<AdapterSet, 'active' | 'get' | 'namedParameters'>;

const kOthers = 'others';

/**
 * Parameter groups of the active adapters, with the rates of methods that have some (the router of Poly: `routerLearningRate`). Groups
 * without parameters are left out.
 *
 * ```ts
 * const optimizer = new AdamW(adapterGroups(tuned, { learningRate: 5e-3, weightDecay: 0.01 }));
 * ```
 */
export function adapterGroups(tuned: Tuned<AdaptedModel> | AdapterSet, options: AdapterGroupOptions): AdapterGroup[] {
  return groupsOf('adapters' in tuned ? tuned.adapters : tuned, options);
}

/** The same for a set of adapters. */
export function groupsOf(set: Adapters, { learningRate, weightDecay = 0 }: AdapterGroupOptions): AdapterGroup[] {
  if (!(learningRate > 0)) throw new ConfigError(`adapterGroups: learningRate must be positive; got ${learningRate}`);
  const groups = new Map<string, AdapterGroup>();
  for (const name of set.active) {
    const rates = ratesOf(set, name);
    for (const [path, value] of set.namedParameters([name])) {
      if (!value.requiresGrad) continue;
      const own = rates.find(({ end }) => path.endsWith(`.${end}`));
      const key = own === undefined ? kOthers : `${name}.${own.end}`;
      const group = groups.get(key) ?? { name: key, parameters: [], learningRate, weightDecay, ...(own === undefined ? {} : rateOf(own)) };
      group.parameters.push(value);
      groups.set(key, group);
    }
  }
  if (groups.size === 0) throw new AdapterError('adapterGroups: no parameters to train; activate an adapter first');
  return [...groups.values()];
}

const rateOf = ({ learningRate, weightDecay }: ParameterRate): Omit<ParameterRate, 'end'> => ({ learningRate, weightDecay });

function ratesOf(set: Pick<AdapterSet, 'get'>, name: string): readonly ParameterRate[] {
  const { method, config } = set.get(name);
  return (method as AnyMethod).rates?.(config) ?? [];
}

/** Whether any active adapter has rates of its own. */
export const hasRates = (set: Pick<AdapterSet, 'active' | 'get'>): boolean => set.active.some((name) => ratesOf(set, name).length > 0);
