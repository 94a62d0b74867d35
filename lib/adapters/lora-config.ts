import { AdapterError, ConfigError } from '../errors.js';
import { type InitConfig, type InitName, resolveInit } from '../inits/registry.js';
import type { CommonConfig } from './adapter.js';
import { commonDefaults } from './adapter.js';
import type { PlainInit } from './lora-init.js';
import type { Pattern } from './patterns.js';

/**
 * Starting values. `true`: A uniform within 1 / sqrt(inputs), B zero. `'gaussian'`: A normal with deviation 1 / rank, B zero. `'orthogonal'`: both non-zero with
 * B A = 0 (rank must be even). `false`: A and B uniform, so the adapter changes the model from the start. Others look at the weights or at data: a name, or
 * `{ type, … }` with options (see `lib/inits`).
 */
export type LoraInit = PlainInit | InitName | 'pissa_fast' | `pissa_niter_${number}` | InitConfig;

/** Options of LoRA; each is optional in `attach`. */
export interface LoraConfig extends CommonConfig {
  /** R, the width of the branch. Default 8. */
  rank: number;
  /** The branch is scaled by alpha / rank. Default 8. */
  alpha: number;
  /** Probability of dropping an element of the branch's input in training. Default 0. */
  dropout: number;
  /** Scale by alpha / sqrt(rank) instead ("A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA"). Default false. */
  rsLora: boolean;
  /** Train a magnitude per output beside the direction ("DoRA: Weight-Decomposed Low-Rank Adaptation"). Default false. */
  dora: boolean;
  /** Default true. */
  init: LoraInit;
  /** Train the model's own biases: those of the adapted layers (`lora_only`) or every one (`all`). Default none. */
  bias: 'none' | 'all' | 'lora_only';
  /** Give B a bias of its own. Default false. */
  loraBias: boolean;
  /** Rank by layer: expressions for the end of a module path; the first that fits decides. */
  rankPattern: Pattern;
  /** Alpha by layer, likewise. */
  alphaPattern: Pattern;
  /** Rows of the embedding to train: token ids, or ids by the name of an embedding. */
  trainableTokenIndices: readonly number[] | Readonly<Record<string, readonly number[]>> | null;
}

export const loraDefaults: LoraConfig = {
  ...commonDefaults,
  rank: 8,
  alpha: 8,
  dropout: 0,
  rsLora: false,
  dora: false,
  init: true,
  bias: 'none',
  loraBias: false,
  rankPattern: {},
  alphaPattern: {},
  trainableTokenIndices: null,
};

const wrong = (what: string, got: unknown, expected = '', method = 'lora'): ConfigError =>
  new ConfigError(
    `${method}: ${what}; got ${got === undefined ? 'nothing' : JSON.stringify(got)}${expected === '' ? '' : `, expected ${expected}`}`,
  );
const isRank = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) > 0;
const isNumber = (value: unknown): boolean => typeof value === 'number' && Number.isFinite(value);
const isTokens = (value: unknown): value is readonly number[] =>
  Array.isArray(value) && value.every((id) => Number.isSafeInteger(id) && id >= 0);

/** Throws `ConfigError` for ranks, alphas and dropout that no branch can have. */
export function checkBranch(
  method: string,
  { rank, alpha, dropout, rankPattern, alphaPattern }: Pick<LoraConfig, 'rank' | 'alpha' | 'dropout' | 'rankPattern' | 'alphaPattern'>,
): void {
  if (!isRank(rank)) throw wrong('rank must be a positive integer', rank, '', method);
  if (!isNumber(alpha)) throw wrong('alpha must be a number', alpha, '', method);
  if (!isNumber(dropout) || dropout < 0 || dropout >= 1) throw wrong('dropout must be at least 0 and below 1', dropout, '', method);
  for (const [key, value] of Object.entries(rankPattern))
    if (!isRank(value)) throw wrong(`rankPattern["${key}"] must be a positive integer`, value, '', method);
  for (const [key, value] of Object.entries(alphaPattern))
    if (!isNumber(value)) throw wrong(`alphaPattern["${key}"] must be a number`, value, '', method);
}

/** Throws `ConfigError` for what cannot work on any model. */
export function checkLora(config: LoraConfig): void {
  const { init, bias } = config;
  checkBranch('lora', config);
  for (const key of ['rsLora', 'dora', 'loraBias'] as const)
    if (typeof config[key] !== 'boolean') throw wrong(`${key} must be true or false`, config[key]);
  const looking = resolveInit(init);
  if (!['none', 'all', 'lora_only'].includes(bias)) throw wrong('unknown bias mode', bias, '"none", "all" or "lora_only"');
  if (config.loraBias && config.dora) throw new ConfigError('lora: loraBias cannot be combined with dora');
  if (config.loraBias && typeof init !== 'boolean') throw wrong('loraBias needs init true or false', init);
  if (looking !== undefined) {
    const { method, options } = looking;
    if (config.dora && method.changesBase)
      throw new ConfigError(
        `lora: init "${method.name}" changes the frozen weight, from which dora takes its magnitudes; expected one of the two`,
      );
    method.check(options, config);
  }
  checkTokens(config.trainableTokenIndices);
}

function checkTokens(tokens: LoraConfig['trainableTokenIndices']): void {
  if (tokens === null) return;
  if (typeof tokens !== 'object') throw wrong('trainableTokenIndices must be lists of token ids', tokens);
  const lists = Array.isArray(tokens) ? [tokens] : Object.values(tokens as Record<string, unknown>);
  for (const list of lists) {
    if (!isTokens(list)) throw wrong('trainableTokenIndices must be lists of token ids', tokens);
    if (new Set(list).size !== list.length) throw wrong('trainableTokenIndices repeats an id', list);
  }
}

/** Why two adapters with these configs cannot be on one model, if so. */
export function loraConflict(config: LoraConfig, other: LoraConfig): string | undefined {
  return config.bias !== 'none' && other.bias !== 'none'
    ? `only one adapter may train biases; got bias ${config.bias} beside ${other.bias}`
    : undefined;
}

/** Thrown where a bias of B would have to be folded into a layer without one. */
export function noBaseBias(): AdapterError {
  return new AdapterError('merge: loraBias cannot be folded into a layer without a bias of its own');
}

/** The options of plain LoRA that makes the change of an adapter of another method: where that one is, and `own`. */
export function plainLoraConfig(
  { targets, exclude, modulesToSave, layersToTransform, layersPattern, allowUnmatched }: CommonConfig,
  own: Partial<LoraConfig>,
): LoraConfig {
  return { ...loraDefaults, targets, exclude, modulesToSave, layersToTransform, layersPattern, allowUnmatched, ...own };
}
