import { ConfigError } from '../errors.js';
import { ownFormat } from '../io/own-format.js';
import { CausalLanguageModel } from '../models/causal-language-model.js';
import { parameter } from '../nn/init.js';
import { ones } from '../ops/create.js';
import type { AdapterMethod, CreateContext, Target } from './adapter.js';
import { type AroundConfig, aroundDefaults, checkAround, pointsOf } from './around-config.js';
import { BranchStart, innerWidth } from './branch-start.js';
import { DenseMixture, SoftMixture } from './mixture-branches.js';
import { requireCount, requireOneOf } from './option-checks.js';
import { trainedNorms } from './stream-norms.js';
import { Bottleneck, type Branch, SublayerBranches, streamWidth } from './sublayer-bottleneck.js';

/** Options of mixtures of adapters; each is optional in `attach`. */
export interface MixtureConfig extends AroundConfig {
  /** `dense`: every token goes through all adapters, a router decides their shares. `soft`: slots, averages of all tokens, go through them. Default `dense`. */
  mixture: 'dense' | 'soft';
  /** Adapters of a mixture. Default 7. */
  adapters: number;
  /** Of `soft`: slots of each adapter. Default 1. */
  slots: number;
  /** Of `soft`: compare tokens and slots by direction alone, with a trained factor. Default false. */
  normalize: boolean;
}

export const mixtureDefaults: MixtureConfig = {
  ...aroundDefaults,
  reduction: 128,
  mixture: 'dense',
  adapters: 7,
  slots: 1,
  normalize: false,
};

const kName = 'mixture-of-adapters';

function check(config: MixtureConfig): void {
  checkAround(kName, config);
  requireOneOf(kName, 'mixture', config.mixture, ['dense', 'soft']);
  requireCount(kName, 'adapters', config.adapters);
  requireCount(kName, 'slots', config.slots);
  requireOneOf(kName, 'normalize', config.normalize, [true, false]);
  if (config.mixture === 'dense' && (config.slots !== 1 || config.normalize))
    throw new ConfigError(
      `${kName}: a dense mixture has no slots; got slots ${config.slots} and normalize ${config.normalize}, expected 1 and false`,
    );
}

function branch(config: MixtureConfig, width: number, path: string, context: CreateContext): Branch {
  const { mixture, adapters, slots, normalize } = config;
  const inner = innerWidth(kName, config, width);
  const start = new BranchStart(context, path, config.init);
  const experts = Array.from({ length: adapters }, (_, i) => {
    const [down, up] = [start.linear(`${i}.down`, 'first', [inner, width]), start.linear(`${i}.up`, 'last', [width, inner])];
    return new Bottleneck(down, up, { activation: 'gelu' });
  });
  if (mixture === 'dense') return new DenseMixture(start.linear('router', 'first', [adapters, width]), experts);
  const phi = start.normal('phi', [width, adapters, slots], Math.sqrt(2 / (adapters * slots + width * slots)));
  return new SoftMixture(phi, experts, normalize ? parameter(() => ones([1], { dtype: context.dtype })) : undefined);
}

function create(target: Target, config: MixtureConfig, context: CreateContext): SublayerBranches {
  if (config.mixture === 'soft' && context.network instanceof CausalLanguageModel)
    throw new ConfigError(
      `${kName}: slots mix tokens with later ones, which a language model is to predict; expected an encoder, or mixture "dense"`,
    );
  const width = streamWidth(kName, target);
  const branches = Object.fromEntries(
    pointsOf(config).map((point) => [point, branch(config, width, `${target.path}.adapter_${point}`, context)]),
  );
  return new SublayerBranches(branches, 'input', context.seed, target.path);
}

/**
 * Several bottlenecks in parallel to the sub-layers of every block, of which each token gets a mixture.
 * "Efficient Fine-tuning of Audio Spectrogram Transformers via Soft Mixture of Adapters".
 *
 * ```ts
 * const tuned = await attach(encoder, { type: 'mixture-of-adapters', mixture: 'soft', adapters: 7 });
 * ```
 */
export const mixtureOfAdapters = {
  name: kName,
  prefix: 'adapter_',
  peftType: 'MIXTURE_OF_ADAPTERS',
  peft: ownFormat(mixtureDefaults),
  defaults: mixtureDefaults,
  check,
  startsAsIdentity: ({ init }) => init !== 'trunc_normal_0.02',
  roles: ['block'],
  kinds: ['other'],
  create,
  extras: (layers, blocks, config, context) =>
    config.norms ? trainedNorms(layers, blocks, config, context, pointsOf(config), (block) => streamWidth(kName, block)) : [],
} as const satisfies AdapterMethod<'mixture-of-adapters', MixtureConfig>;
