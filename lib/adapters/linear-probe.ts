import { ownFormat } from '../io/own-format.js';
import { type AdapterMethod, type CommonConfig, commonDefaults } from './adapter.js';
import { layersOf } from './inject.js';
import { requireOneOf } from './option-checks.js';
import { finalNorms, isOfHead } from './stream-norms.js';
import { ownNames, trainedLayers } from './whole-layers.js';

/** Options of a linear probe; each is optional in `attach`. */
export interface LinearProbeConfig extends CommonConfig {
  /** Also train the norm behind the last block. Default true. */
  norms: boolean;
}

export const linearProbeDefaults: LinearProbeConfig = { ...commonDefaults, targets: '.*', norms: true };

/**
 * A linear probe: the head is trained, and the norm behind the last block with it; the encoder stays as it is.
 *
 * ```ts
 * const tuned = await attach(model, { type: 'linear-probe' });
 * ```
 */
export const linearProbe = {
  name: 'linear-probe',
  prefix: '',
  peftType: 'LINEAR_PROBE',
  peft: ownFormat(linearProbeDefaults),
  defaults: linearProbeDefaults,
  check: ({ norms }) => requireOneOf('linear-probe', 'norms', norms, [true, false]),
  roles: [],
  prepare: async (targets, config, context) => {
    const norms = config.norms ? finalNorms(layersOf(context.network), context.network).map(({ path }) => path) : [];
    return trainedLayers('linear-probe', targets, config, context, (target) =>
      norms.includes(target.path) || isOfHead(context.network, target) ? ownNames(target) : [],
    );
  },
} as const satisfies AdapterMethod<'linear-probe', LinearProbeConfig>;
