import type { SublayerPoint } from '../nn/sublayer.js';
import { type CommonConfig, commonDefaults } from './adapter.js';
import { type BranchInit, branchInits } from './branch-start.js';
import { requireCount, requireOneOf, wrongOption } from './option-checks.js';

/** Which parts of a block get something around them. */
export type AroundSublayers = SublayerPoint | 'both';

/** Options of every method that puts bottlenecks around the sub-layers of blocks. */
export interface AroundConfig extends CommonConfig {
  /** Around the MLP alone, attention alone, or each of them. */
  sublayers: AroundSublayers;
  /** RR: bottlenecks have round(D / RR) numbers on a stream of D. */
  reduction: number;
  /** Numbers of a bottleneck, whatever D; `null`: by `reduction`. Default null. */
  width: number | null;
  /** Starting values. Default `zero_up`: the model starts as it is. */
  init: BranchInit;
  /** Also train the norms at the sub-layers that have an adapter, and those behind the last block. Default true. */
  norms: boolean;
}

export const aroundDefaults: Omit<AroundConfig, 'reduction'> = {
  ...commonDefaults,
  sublayers: 'mlp',
  width: null,
  init: 'zero_up',
  norms: true,
};

/** Throws `ConfigError` for what cannot work on any model. */
export function checkAround(method: string, { sublayers, reduction, width, init, norms }: AroundConfig): void {
  requireOneOf(method, 'sublayers', sublayers, ['mlp', 'attention', 'both']);
  if (!(typeof reduction === 'number' && Number.isFinite(reduction) && reduction >= 1))
    throw wrongOption(method, 'reduction', reduction, 'a number of at least 1');
  if (width !== null) requireCount(method, 'width', width);
  requireOneOf(method, 'init', init, branchInits);
  requireOneOf(method, 'norms', norms, [true, false]);
}

/** The sub-layers that a config means. */
export const pointsOf = ({ sublayers }: Pick<AroundConfig, 'sublayers'>): readonly SublayerPoint[] =>
  sublayers === 'both' ? ['attention', 'mlp'] : [sublayers];
