import { AdapterError } from '../errors.js';
import { type ResolvedLatentInit, resolveLatentInit } from '../inits/latent.js';
import { peftLoraXs } from '../io/peft-lora-xs.js';
import type { Tensor } from '../tensor.js';
import type { AdapterForm, AdapterMethod, CommonConfig, Placement, PortableAdapter } from './adapter.js';
import { namedTensorsOf } from './adapter-table.js';
import { lora } from './lora.js';
import { checkLoraXs, type LoraXsConfig, loraXsDefaults, plainConfig } from './lora-xs-config.js';
import { LoraXsLinear } from './lora-xs-linear.js';
import { createLoraXs, prepareLoraXs } from './lora-xs-start.js';
import { checkPatternKeys } from './patterns.js';

/** As trained, or as plain LoRA of the same rank with A and B R_w: the same bits. Throws `AdapterError` for the forms of split weights. */
function portable(config: LoraXsConfig, placements: readonly Placement[], form: AdapterForm): PortableAdapter<CommonConfig> {
  if (form === 'native') return { config, tensors: placements.flatMap(namedTensorsOf) };
  if (form !== 'published' && form !== 'lora')
    throw new AdapterError(
      `save: form "${form}" is of adapters that took a part out of the frozen weights; expected "published", "lora" or "native"`,
    );
  return {
    method: lora,
    config: plainConfig(config),
    tensors: placements.flatMap((placement): [string, Tensor][] => {
      const { path, module } = placement;
      if (!(module instanceof LoraXsLinear)) return namedTensorsOf(placement);
      return [
        [`${path}.lora_A.weight`, module.lora_A.weight],
        [`${path}.lora_B.weight`, module.b],
      ];
    }),
  };
}

const calibrationSize = ({ type, options }: ResolvedLatentInit): { batchSize?: number | undefined; batches?: number | undefined } =>
  type === 'lora-sb' ? { batchSize: options.batchSize ?? undefined, batches: options.batches ?? undefined } : {};

/**
 * LoRA-XS: y += (alpha / rank) * ((x Aᵀ) R_wᵀ) Bᵀ, of which only R_w [R, R] is trained. "LoRA-XS: Low-Rank Adaptation with Extremely Small Number of Parameters";
 * started from an estimate of the first full update (`init: { type: 'lora-sb', … }`) it is LoRA-SB.
 *
 * ```ts
 * const tuned = await attach(model, { type: 'lora-xs', rank: 64, targets: 'all-linear' });
 * ```
 */
export const loraXs = {
  name: 'lora-xs',
  prefix: 'lora_',
  peftType: 'LORA',
  peft: peftLoraXs,
  defaults: loraXsDefaults,
  check: checkLoraXs,
  usesData: ({ init }) => resolveLatentInit(init).type === 'lora-sb',
  calibration: ({ init }) => calibrationSize(resolveLatentInit(init)),
  startsAsIdentity: () => false,
  plain: (config) => ({ ...config, init: 'random' }),
  roles: ['attention', 'mlp'],
  kinds: ['linear'],
  prepare: prepareLoraXs,
  create: createLoraXs,
  extras: (_layers, targets, config) => {
    checkPatternKeys('lora-xs', targets, config);
    return [];
  },
  portable,
} as const satisfies AdapterMethod<'lora-xs', LoraXsConfig>;
