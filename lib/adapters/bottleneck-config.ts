import { ConfigError, didYouMean } from '../errors.js';
import { activations } from '../nn/activations.js';
import type { Role } from '../nn/role.js';
import { type CommonConfig, commonDefaults } from './adapter.js';

/** Options of bottleneck adapters; each is optional in `attach`. */
export interface BottleneckConfig extends CommonConfig {
  /** M, the width between the two matrices. Default 256. */
  bottleneckSize: number;
  /** Activation between them, by its name in published configs; `linear` is none, and such an adapter can be merged. Default `tanh`. */
  nonLinearity: string;
  /** Probability of dropping an element of the adapter's input in training. Default 0. */
  dropout: number;
  /** Factor of the adapter's output, or `learned`: a number trained from 1 on, of each adapter. Default 1. */
  scaling: number | 'learned';
  /** `bert`: both matrices normal with deviation 0.02, so that the model changes from the start; `mam_adapter`: the second is zero. Default `bert`. */
  init: 'bert' | 'mam_adapter';
  /** Next to every targeted layer, from its input to its output, and by default on query, key and value. Default false: in series with the layers of the MLP. */
  parallel: boolean;
  /** In series after the last layer of the MLP alone ("AdapterP"). Default false. */
  adapterP: boolean;
  /** Train the model's own biases: those of the adapted layers (`adapter_only`) or every one (`all`). Default none. */
  bias: 'none' | 'all' | 'adapter_only';
}

export const bottleneckDefaults: BottleneckConfig = {
  ...commonDefaults,
  bottleneckSize: 256,
  nonLinearity: 'tanh',
  dropout: 0,
  scaling: 1,
  init: 'bert',
  parallel: false,
  adapterP: false,
  bias: 'none',
};

const wrong = (what: string, got: unknown, expected: string): ConfigError =>
  new ConfigError(`bottleneck: ${what}; got ${JSON.stringify(got) ?? 'nothing'}, expected ${expected}`);

const oneOf = (key: string, got: unknown, allowed: readonly string[]): void => {
  if (!allowed.includes(got as string)) throw wrong(`unknown ${key}`, got, allowed.map((name) => `"${name}"`).join(' or '));
};

/** Throws `ConfigError` for what cannot work on any model. */
export function checkBottleneck(config: BottleneckConfig): void {
  const { bottleneckSize, nonLinearity, dropout, scaling, init, parallel, adapterP, bias } = config;
  if (!Number.isSafeInteger(bottleneckSize) || bottleneckSize <= 0)
    throw wrong('bottleneckSize is out of range', bottleneckSize, 'a positive integer');
  if (typeof nonLinearity !== 'string' || !Object.hasOwn(activations, nonLinearity))
    throw wrong(
      'unknown nonLinearity',
      nonLinearity,
      `${Object.keys(activations).join(', ')}${didYouMean(String(nonLinearity), Object.keys(activations))}`,
    );
  if (typeof dropout !== 'number' || !(dropout >= 0 && dropout < 1))
    throw wrong('dropout is out of range', dropout, 'at least 0 and below 1');
  if (scaling !== 'learned' && !(typeof scaling === 'number' && Number.isFinite(scaling)))
    throw wrong('scaling is of the wrong kind', scaling, 'a number or "learned"');
  oneOf('init', init, ['bert', 'mam_adapter']);
  oneOf('bias mode', bias, ['none', 'all', 'adapter_only']);
  for (const key of ['parallel', 'adapterP'] as const)
    if (typeof config[key] !== 'boolean') throw wrong(`${key} is of the wrong kind`, config[key], 'true or false');
  if (parallel && adapterP) throw new ConfigError('bottleneck: parallel and adapterP are two places; got both, expected one of the two');
}

/** Where an adapter stands at its linear layer F: F(x + a(x)), h + a(h) with h = F(x), or F(x) + a(x). */
export type Position = 'before' | 'after' | 'parallel';

/** Places of adapters in series, by what the layer does. */
const inSeries: { readonly [R in Role]?: Position } = {
  'mlp.gate': 'before',
  'mlp.up': 'before',
  'mlp.down': 'after',
  'attention.query': 'before',
  'attention.key': 'before',
  'attention.value': 'before',
  'attention.output': 'after',
};

/** Where the adapter of a layer stands. Throws `ConfigError` for one in series with a layer whose place in its block is not known. */
export function positionOf({ parallel }: Pick<BottleneckConfig, 'parallel'>, path: string, role: Role | undefined): Position {
  if (parallel) return 'parallel';
  const position = role && inSeries[role];
  if (position !== undefined) return position;
  throw new ConfigError(
    `bottleneck: an adapter in series has no place at "${path}"; got a layer of role ${role ?? 'none'}, expected ${Object.keys(inSeries).join(', ')}, or parallel: true`,
  );
}

/** The layers that are adapted when `targets` is null: AdapterH, AdapterP and Parallel of the paper. */
export function bottleneckRoles({ parallel, adapterP }: Pick<BottleneckConfig, 'parallel' | 'adapterP'>): readonly Role[] {
  if (parallel) return ['attention.query', 'attention.key', 'attention.value'];
  return adapterP ? ['mlp.down'] : ['mlp.gate', 'mlp.up', 'mlp.down'];
}
