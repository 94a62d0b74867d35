import type { PeftFormat } from '../adapters/adapter.js';
import { type LoraXsConfig, plainConfig } from '../adapters/lora-xs-config.js';
import { ConfigError } from '../errors.js';
import { type LatentInit, resolveLatentInit } from '../inits/latent.js';
import type { JsonObject } from './json.js';
import { peftLora } from './peft-lora.js';

/** The file that the reference implementation writes beside its adapters. */
export const kReconstruction = 'reconstr_config.json';
/** Says that tensors named `lora_A` and `lora_B` are two of three factors. */
const kMarker = 'latent';

const kPowerSteps = 10;

const kUnsupported = ['use_dora', 'use_rslora', 'lora_bias', 'trainable_token_indices'] as const;

function read(file: JsonObject): Partial<LoraXsConfig> {
  const plain = peftLora.read(file);
  for (const key of kUnsupported) {
    const value = file[key] ?? false;
    if (value !== false)
      throw new ConfigError(`adapter_config.json: "${key}" does not go with a latent mapping; got ${JSON.stringify(value)}`);
  }
  if (plain.bias !== 'none') throw new ConfigError(`adapter_config.json: "bias" does not go with a latent mapping; got "${plain.bias}"`);
  const { rank, alpha, dropout, rankPattern, alphaPattern } = plain as Required<typeof plain>;
  return { rank, alpha, dropout, rankPattern, alphaPattern };
}

/** Power steps of the decomposition; those of the reference where there is none, or an exact one. */
function powerSteps(init: LatentInit): number {
  const { options } = resolveLatentInit(init);
  return ('niter' in options ? options.niter : null) ?? kPowerSteps;
}

/** LoRA-XS in the files of its reference implementation: those of LoRA and a third factor, `PATH_lora_latent_mapping.weight` [R, R]. */
export const peftLoraXs: PeftFormat<LoraXsConfig> = {
  keys: { ...peftLora.keys, [kMarker]: true },
  read,
  write: (config) => {
    const { init_lora_weights: _, ...keys } = peftLora.write(plainConfig(config));
    return keys;
  },
  recognises: (file, tensors) => file[kMarker] === true || tensors.some((name) => name.endsWith('.lora_latent_mapping.weight')),
  beside: ({ rank, init }) => ({
    [kReconstruction]: `${JSON.stringify(
      {
        half_init_dec: false,
        r_squared: true,
        rank,
        reconstr_mode: 'separated',
        reconstruction_type: 'svd',
        replacement_module_random_init: false,
        svd: { n_iter: powerSteps(init), random_state: 42 },
      },
      null,
      2,
    )}\n`,
  }),
};
