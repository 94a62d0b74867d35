import { ConfigError } from '../errors.js';
import { ownFormat } from '../io/own-format.js';
import { Linear } from '../nn/linear.js';
import { type AdapterMethod, type CommonConfig, commonDefaults, type Target } from './adapter.js';
import { ownNames, trainedLayers } from './whole-layers.js';

/** Options of full fine-tuning; each is optional in `attach`. */
export type FullConfig = CommonConfig;

export const fullDefaults: FullConfig = { ...commonDefaults, targets: '.*' };

const isTied = ({ layer }: Target): boolean => layer instanceof Linear && layer.tiedTo !== undefined;

/**
 * Full fine-tuning as an adapter: copies of all weights are trained in their place, and can be switched off, kept beside others, or folded in. What is trained has
 * the dtype of adapters, and takes its own memory beside the weights. Tensors that the network holds itself, such as the class token and the positions of timm's ViT,
 * are the target `.`: `exclude: ['.']` leaves them as they are.
 *
 * ```ts
 * const tuned = await attach(model, { type: 'full' });
 * ```
 */
export const full = {
  name: 'full',
  prefix: '',
  peftType: 'FULL',
  peft: ownFormat(fullDefaults),
  defaults: fullDefaults,
  check: () => {},
  roles: [],
  adaptsNetwork: true,
  prepare: async (targets, config, context) => {
    const tied = targets.find(isTied);
    if (tied !== undefined)
      throw new ConfigError(
        `full: "${tied.path}" shares its weight with an embedding, and copies of the two would part; got it among the targets, expected exclude to name both`,
      );
    return trainedLayers('full', targets, config, context, ownNames);
  },
} as const satisfies AdapterMethod<'full', FullConfig>;
