import { type AroundConfig, aroundDefaults, checkAround } from './around-config.js';
import type { ConvpassForm } from './convolution-branches.js';
import { requireCount, requireDropout, requireOneOf, wrongOption } from './option-checks.js';

/** What an adapter computes between its two linear maps: an activation, convolutions, or the convolution module of Conformer. */
export type AdapterBlock = 'bottleneck' | 'convpass' | 'conformer';

/** Options of adapters around sub-layers; each is optional in `attach`. */
export interface BlockAdapterConfig extends AroundConfig {
  /**
   * Where an adapter a is around a sub-layer S with input n. `parallel`: S(n) + a(n). `sequential`: a(S(n)), the result of S going through the adapter. `before`:
   * S(a(n)) + a(n), the sub-layer reading what the adapter makes. Default `parallel`.
   */
  placement: 'parallel' | 'sequential' | 'before';
  /**
   * Whether what the adapter reads is added to what it makes: parallel S(n) + a(n) + n, sequential S(n) + a(S(n)), before S(n + a(n)) + a(n). `auto`: as published,
   * not in parallel and else yes. Default `auto`.
   */
  residual: boolean | 'auto';
  /** Default `bottleneck`. */
  block: AdapterBlock;
  /** Of `convpass`: along the tokens, over the grid of patches, or none, as in the released program, whose convolution has no effect. Default `1d`. */
  convolution: ConvpassForm;
  /** Taps of the depthwise convolution of `conformer`. Default 31. */
  kernelSize: number;
  /** Probability of dropping an element in training. `null`: 0.1 in `convpass`, else 0. Default null. */
  dropout: number | null;
}

export const blockAdapterDefaults: BlockAdapterConfig = {
  ...aroundDefaults,
  reduction: 64,
  placement: 'parallel',
  residual: 'auto',
  block: 'bottleneck',
  convolution: '1d',
  kernelSize: 31,
  dropout: null,
};

const kName = 'block-adapter';

/** Throws `ConfigError` for what cannot work on any model. */
export function checkBlockAdapter(config: BlockAdapterConfig): void {
  checkAround(kName, config);
  requireOneOf(kName, 'placement', config.placement, ['parallel', 'sequential', 'before']);
  requireOneOf(kName, 'residual', config.residual, ['auto', true, false]);
  requireOneOf(kName, 'block', config.block, ['bottleneck', 'convpass', 'conformer']);
  requireOneOf(kName, 'convolution', config.convolution, ['1d', '2d', 'none']);
  requireCount(kName, 'kernelSize', config.kernelSize);
  if (config.dropout !== null) requireDropout(kName, config.dropout);
  if (config.init === 'zero' && config.block !== 'bottleneck')
    throw wrongOption(kName, 'init', 'zero', 'another one: only bottlenecks start so');
}

/** Whether what an adapter reads is added to what it makes. */
export const hasResidual = ({ placement, residual }: Pick<BlockAdapterConfig, 'placement' | 'residual'>): boolean =>
  residual === 'auto' ? placement !== 'parallel' : residual;
