import { peftPrefix } from '../io/peft-prompts.js';
import type { TokenNetwork } from '../nn/virtual-tokens.js';
import { tanh } from '../ops/elementwise.js';
import type { Tensor } from '../tensor.js';
import { type AdapterMethod, type AdapterModule, type CommonConfig, type CreateContext, commonDefaults } from './adapter.js';
import { requireCount, requireOneOf, wrongOption } from './option-checks.js';
import { emptyTable, MlpEncoder, normalTable, type PromptEncoder, uniformTable } from './prompt-encoder.js';
import { headsOf, PrefixTokens, portableTable, type SliceOrder } from './virtual-module.js';

/** Options of prefix tuning; each is optional in `attach`. */
export interface PrefixConfig extends CommonConfig {
  /** T, keys and values in front of those of the tokens. Default 30. */
  virtualTokens: number;
  /** Make them from smaller embeddings with an MLP of two layers, which is trained in their place and not saved. Default false. */
  projection: boolean;
  /** Width between the layers of that MLP; `null`: that of the keys of a layer. Default null. */
  projectionSize: number | null;
  /**
   * `random`: normal values; `uniform`: within sqrt(6 / (3 · 16² + D)), as prompts of vision transformers start; `zero`: keys and values of zero, which only take
   * weight from those of the tokens. Default `random`.
   */
  init: 'random' | 'uniform' | 'zero';
  /** How a table that comes from elsewhere is cut: `keys-first` is that of BLOOM in PEFT. Saved as `layers`. Default `layers`. */
  order: SliceOrder;
}

export const prefixDefaults: PrefixConfig = {
  ...commonDefaults,
  virtualTokens: 30,
  projection: false,
  projectionSize: null,
  init: 'random',
  order: 'layers',
};

function check({ virtualTokens, projection, projectionSize, init, order }: PrefixConfig): void {
  requireCount('prefix', 'virtualTokens', virtualTokens);
  requireOneOf('prefix', 'projection', projection, [true, false]);
  if (projectionSize !== null) requireCount('prefix', 'projectionSize', projectionSize);
  if (projectionSize !== null && !projection) throw wrongOption('prefix', 'projectionSize', projectionSize, 'null without projection');
  requireOneOf('prefix', 'init', init, ['random', 'uniform', 'zero']);
  if (init === 'uniform' && projection) throw wrongOption('prefix', 'init', init, 'another one with projection');
  requireOneOf('prefix', 'order', order, ['layers', 'keys-first']);
}

function table(shape: TokenNetwork['shape'], config: PrefixConfig, context: CreateContext): Tensor | PromptEncoder {
  const { virtualTokens: tokens, projection, projectionSize, init } = config;
  const { groups, width } = headsOf('prefix', shape);
  const whole = [tokens, 2 * shape.layers * groups * width] as const;
  if (context.loading || (init === 'zero' && !projection)) return emptyTable(whole, context.dtype);
  if (init === 'uniform') return uniformTable(whole, shape.hiddenSize, 'prompt_embeddings', context);
  if (!projection) return normalTable(whole, 'prompt_embeddings', context);
  const own = groups * width;
  return new MlpEncoder(tokens, [own, projectionSize ?? own, whole[1]], tanh, context, init === 'zero');
}

const whole = ({ shape }: TokenNetwork, config: PrefixConfig, context: CreateContext): AdapterModule =>
  new PrefixTokens(config.virtualTokens, table(shape, config, context), shape, config.order);

/**
 * Prefix tuning: trained keys and values in front of those of every layer.
 * "Prefix-Tuning: Optimizing Continuous Prompts for Generation".
 *
 * ```ts
 * const tuned = await attach(model, { type: 'prefix', virtualTokens: 10 });
 * ```
 */
export const prefix = {
  name: 'prefix',
  prefix: 'prompt_',
  peftType: 'PREFIX_TUNING',
  peft: peftPrefix,
  defaults: prefixDefaults,
  check,
  startsAsIdentity: () => false,
  roles: [],
  whole,
  portable: (config, placements, form) => portableTable({ ...config, order: 'layers' }, placements, form),
} as const satisfies AdapterMethod<'prefix', PrefixConfig>;
