import { ConfigError } from '../errors.js';
import type { Role } from '../nn/role.js';
import type { SublayerPoint } from '../nn/sublayer.js';
import { type CommonConfig, commonDefaults } from './adapter.js';
import type { ExpertMerge } from './expert-values.js';
import type { BottleneckActivation, BranchSource } from './sublayer-bottleneck.js';

export type MosaStyle = 'adaptformer' | 'pfeiffer' | 'houlsby' | 'swin' | 'lora';

/** Weights of what a second pass with other experts adds to the loss. */
export interface MosaConsistency {
  /** Of half the sum of both divergences between the two predictions, each to a fixed other. Default 1. */
  readonly kl?: number;
  /** Of the loss of the second pass. Default 0. */
  readonly ce2?: number;
  /** Of the squared distance of the streams behind the first six blocks (see `hiddenDistance`); 0.01 is published. Default 0. */
  readonly deep?: number;
}

/** Options of MoSA; each is optional in `attach`. */
export interface MosaConfig extends CommonConfig {
  /**
   * `adaptformer`: beside the MLP, from the residual stream, with a layer norm and GELU. `pfeiffer`: behind the MLP, with a layer norm and
   * ReLU. `houlsby`: behind attention and MLP with their residuals, with SiLU. `swin`: beside the MLP, from its normed input, with GELU. `lora`: low-rank branches of
   * linear layers (MoSL). Default `adaptformer`.
   */
  style: MosaStyle;
  /** Width of the bottleneck, or rank of `lora`. Default null: 64, and 16 for `lora`. */
  bottleneckSize: number | null;
  /** n, from 1 to 255; 1 is the plain adapter of the style. Default 4. */
  experts: number;
  /** The product that all experts share, the other one is split; `none`: both are. Default `down`. */
  share: 'down' | 'up' | 'none';
  /** How the experts become one adapter, out of training and in files. Default `mean`, which is the expectation in training. */
  merge: ExpertMerge;
  /** Loss of two passes with experts of their own; null: one pass. Default `{ kl: 1 }`. */
  consistency: MosaConsistency | null;
  /** Biases of a split product: a whole one for each expert, or entries owned as those of the weight. Default `replicate`. */
  biasMode: 'replicate' | 'split';
  /** Factor of the branch, or `learned`: one trained number a branch that starts at 1, but for `lora`. Default null: 0.1 for `adaptformer` and `swin`, else 1. */
  scale: number | 'learned' | null;
  /** Probability of dropping an element, behind the activation or of the input of `lora`. Default null: 0.1 for `adaptformer` and `swin`, else 0. */
  dropout: number | null;
  /**
   * Whether the optimizer leaves experts alone that did not run in a step; otherwise their moments decay and their momentum moves them.
   * Default false.
   */
  skipInactive: boolean;
}

export const mosaDefaults: MosaConfig = {
  ...commonDefaults,
  style: 'adaptformer',
  bottleneckSize: null,
  experts: 4,
  share: 'down',
  merge: 'mean',
  consistency: { kl: 1 },
  biasMode: 'replicate',
  scale: null,
  dropout: null,
  skipInactive: false,
};

interface SublayerStyle {
  readonly points: readonly SublayerPoint[];
  readonly source: BranchSource;
  readonly activation: BottleneckActivation;
  readonly normEpsilon?: number;
}

export const sublayerStyles: Readonly<Record<Exclude<MosaStyle, 'lora'>, SublayerStyle>> = {
  adaptformer: { points: ['mlp'], source: 'residual', activation: 'gelu', normEpsilon: 1e-6 },
  pfeiffer: { points: ['mlp'], source: 'output', activation: 'relu', normEpsilon: 1e-6 },
  houlsby: { points: ['attention', 'mlp'], source: 'sum', activation: 'silu' },
  swin: { points: ['mlp'], source: 'input', activation: 'gelu' },
};

const styles: readonly string[] = [...Object.keys(sublayerStyles), 'lora'];

/** The roles that are adapted when `targets` is null. */
export const mosaRoles = ({ style }: Pick<MosaConfig, 'style'>): readonly Role[] =>
  style === 'lora' ? ['attention.query', 'attention.value'] : ['block'];

/** The options that depend on the style where they are null. */
export function settingsOf({ style, bottleneckSize, scale, dropout }: MosaConfig): {
  width: number;
  scale: number | 'learned';
  dropout: number;
} {
  const own = style === 'adaptformer' || style === 'swin' ? 0.1 : undefined;
  return { width: bottleneckSize ?? (style === 'lora' ? 16 : 64), scale: scale ?? own ?? 1, dropout: dropout ?? own ?? 0 };
}

const wrong = (key: string, got: unknown, expected: string): ConfigError =>
  new ConfigError(`mosa: ${key} cannot be used; got ${JSON.stringify(got) ?? 'nothing'}, expected ${expected}`);
const oneOf = (key: keyof MosaConfig, got: unknown, names: readonly string[]): void => {
  if (!names.includes(got as string)) throw wrong(key, got, names.map((name) => `"${name}"`).join(', '));
};
const isWhole = (value: unknown, from: number, to = Number.MAX_SAFE_INTEGER): boolean =>
  Number.isSafeInteger(value) && (value as number) >= from && (value as number) <= to;

/** Throws `ConfigError` for what cannot work on any model. */
export function checkMosa({
  style,
  bottleneckSize,
  experts,
  share,
  merge,
  consistency,
  biasMode,
  scale,
  dropout,
  skipInactive,
}: MosaConfig): void {
  oneOf('style', style, styles);
  if (bottleneckSize !== null && !isWhole(bottleneckSize, 1))
    throw wrong('bottleneckSize', bottleneckSize, 'a positive whole number or null');
  if (!isWhole(experts, 1, 255)) throw wrong('experts', experts, 'a whole number from 1 to 255');
  if (share === ('both' as string) || Array.isArray(share))
    throw new ConfigError(`mosa: there is nothing to split; got share ${JSON.stringify(share)}, expected "down", "up" or "none"`);
  oneOf('share', share, ['down', 'up', 'none']);
  oneOf('merge', merge, ['mean', 'joint', 'sum']);
  oneOf('biasMode', biasMode, ['replicate', 'split']);
  if (scale !== null && scale !== 'learned' && !(typeof scale === 'number' && Number.isFinite(scale)))
    throw wrong('scale', scale, 'a number, "learned" or null');
  if (scale === 'learned' && style === 'lora') throw wrong('scale', scale, 'a number or null with style "lora"');
  if (dropout !== null && !(typeof dropout === 'number' && dropout >= 0 && dropout < 1))
    throw wrong('dropout', dropout, 'a number of at least 0 and below 1, or null');
  if (typeof skipInactive !== 'boolean') throw wrong('skipInactive', skipInactive, 'true or false');
  checkConsistency(consistency);
}

function checkConsistency(consistency: unknown): void {
  if (consistency === null) return;
  if (typeof consistency !== 'object') throw wrong('consistency', consistency, '{ kl, ce2, deep } or null');
  for (const [key, weight] of Object.entries(consistency as object)) {
    if (!['kl', 'ce2', 'deep'].includes(key)) throw wrong('consistency', consistency, 'no other keys than kl, ce2 and deep');
    if (weight !== undefined && !(typeof weight === 'number' && weight >= 0 && Number.isFinite(weight)))
      throw wrong(`consistency.${key}`, weight, 'a number of at least 0');
  }
}
