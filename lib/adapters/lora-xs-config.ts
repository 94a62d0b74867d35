import { ConfigError } from '../errors.js';
import { type LatentInit, resolveLatentInit } from '../inits/latent.js';
import { checkLoraSb } from '../inits/lora-sb.js';
import { type CommonConfig, commonDefaults } from './adapter.js';
import { checkBranch, type LoraConfig, loraDefaults } from './lora-config.js';
import type { Pattern } from './patterns.js';

/** Options of LoRA-XS; each is optional in `attach`. */
export interface LoraXsConfig extends CommonConfig {
  /** R: R² numbers are trained a layer. Default 16. */
  rank: number;
  /** The branch is scaled by alpha / rank. Default null: the rank of each layer, so that the scale is 1. */
  alpha: number | null;
  /** Probability of dropping an element of the branch's input in training. Default 0. */
  dropout: number;
  /**
   * Where the frozen factors come from. `'svd'` (the default): the principal singular vectors of the weight, A times the singular values; R_w normal with deviation
   * 1e-5. `'random'`: A and B uniform. `'lora-sb'`, with options: an estimate of the first update of full fine-tuning (LoRA-SB), which needs `data`.
   */
  init: LatentInit;
  /** Rank by layer: expressions for the end of a module path; the first that fits decides. */
  rankPattern: Pattern;
  /** Alpha by layer, likewise. */
  alphaPattern: Pattern;
}

export const loraXsDefaults: LoraXsConfig = {
  ...commonDefaults,
  rank: 16,
  alpha: null,
  dropout: 0,
  init: 'svd',
  rankPattern: {},
  alphaPattern: {},
};

/** LoRA with the same branches: where alpha follows the rank, by a pattern where the rank has one. */
export function plainConfig(config: LoraXsConfig): LoraConfig {
  const { init: _, alpha, ...same } = config;
  const alphaPattern =
    alpha === null ? { ...config.alphaPattern, ...unless(config.alphaPattern, config.rankPattern) } : config.alphaPattern;
  return { ...loraDefaults, ...same, alpha: alpha ?? config.rank, alphaPattern };
}

const unless = (taken: Pattern, pattern: Pattern): Pattern =>
  Object.fromEntries(Object.entries(pattern).filter(([key]) => !Object.hasOwn(taken, key)));

/** Throws `ConfigError` for what cannot work on any model. */
export function checkLoraXs(config: LoraXsConfig): void {
  checkBranch('lora-xs', plainConfig(config));
  const { type, options } = resolveLatentInit(config.init);
  if (type === 'lora-sb') checkLoraSb(options);
  if (type === 'svd' && options.niter !== null && !(Number.isSafeInteger(options.niter) && options.niter >= 0))
    throw new ConfigError(`lora-xs: niter must be null or a whole number; got ${JSON.stringify(options.niter)}`);
}
