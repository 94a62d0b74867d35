import { ConfigError } from '../errors.js';
import { type CommonConfig, commonDefaults } from './adapter.js';

/**
 * Starting values of the down-projections; up-projections and biases start at zero. `'xavier'`: uniform within sqrt(6 / (inputs + rank)).
 * `'kaiming'`: uniform within 1 / sqrt(inputs). `'normal0.02'`: normal with deviation 0.02.
 */
export type HydraInit = 'xavier' | 'kaiming' | 'normal0.02';

/** Options of Hydra; each is optional in `attach`. */
export interface HydraConfig extends CommonConfig {
  /** Rank of the parallel branch, which reads the input of the layer; 0: there is none. Default 2. */
  rankParallel: number;
  /** Rank of the sequential branch, which reads the output of the bare layer; 0: there is none. Default 2. */
  rankSequential: number;
  /** Multiplies both branches: a number, or `'learned'`, one trained number a layer that starts at 1. Default 1. */
  scale: number | 'learned';
  /**
   * Whether both projections of the branches have biases. `'auto'` (the default): where the layer has one, so that they can be folded into
   * it.
   */
  bias: boolean | 'auto';
  /** Probability of dropping an element between down- and up-projection in training. Default 0. */
  dropout: number;
  /** Default `'xavier'`. */
  init: HydraInit;
}

export const hydraDefaults: HydraConfig = {
  ...commonDefaults,
  rankParallel: 2,
  rankSequential: 2,
  scale: 1,
  bias: 'auto',
  dropout: 0,
  init: 'xavier',
};

export const hydraInits: readonly HydraInit[] = ['xavier', 'kaiming', 'normal0.02'];

const wrong = (key: string, got: unknown, expected: string): ConfigError =>
  new ConfigError(`hydra: ${key} cannot be used; got ${JSON.stringify(got) ?? 'nothing'}, expected ${expected}`);
const isRank = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;

/** Throws `ConfigError` for what cannot work on any model. */
export function checkHydra({ rankParallel, rankSequential, scale, bias, dropout, init }: HydraConfig): void {
  if (!isRank(rankParallel)) throw wrong('rankParallel', rankParallel, 'a whole number, 0 for no parallel branch');
  if (!isRank(rankSequential)) throw wrong('rankSequential', rankSequential, 'a whole number, 0 for no sequential branch');
  if (rankParallel + rankSequential === 0)
    throw new ConfigError('hydra: there is no branch; got rankParallel 0 and rankSequential 0, expected one of them to be at least 1');
  if (scale !== 'learned' && !(typeof scale === 'number' && Number.isFinite(scale))) throw wrong('scale', scale, 'a number or "learned"');
  if (bias !== 'auto' && typeof bias !== 'boolean') throw wrong('bias', bias, 'true, false or "auto"');
  if (!(typeof dropout === 'number' && dropout >= 0 && dropout < 1)) throw wrong('dropout', dropout, 'a number of at least 0 and below 1');
  if (!hydraInits.includes(init)) throw wrong('init', init, hydraInits.map((name) => `"${name}"`).join(', '));
}
