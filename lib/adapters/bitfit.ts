import { ownFormat } from '../io/own-format.js';
import { type AdapterMethod, type CommonConfig, commonDefaults } from './adapter.js';
import { isOfHead } from './stream-norms.js';
import { ownNames, trainedLayers } from './whole-layers.js';

/** Options of BitFit; each is optional in `attach`. */
export type BitFitConfig = CommonConfig;

export const bitFitDefaults: BitFitConfig = { ...commonDefaults, targets: '.*' };

/**
 * BitFit: the biases of linear layers and norms are trained, nothing else; those of convolutions and heads stay. Folds into the weights.
 * "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models".
 *
 * ```ts
 * const tuned = await attach(model, { type: 'bitfit' });
 * ```
 */
export const bitFit = {
  name: 'bitfit',
  prefix: '',
  peftType: 'BITFIT',
  peft: ownFormat(bitFitDefaults),
  defaults: bitFitDefaults,
  check: () => {},
  roles: [],
  prepare: async (targets, config, context) =>
    trainedLayers('bitfit', targets, config, context, (target) =>
      target.role === 'conv' || isOfHead(context.network, target) ? [] : ownNames(target).filter((name) => name === 'bias'),
    ),
} as const satisfies AdapterMethod<'bitfit', BitFitConfig>;
