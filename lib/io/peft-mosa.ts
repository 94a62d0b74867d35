import type { PeftFormat } from '../adapters/adapter.js';
import { mosaDefaults as defaults, type MosaConfig } from '../adapters/mosa-config.js';
import type { JsonObject } from './json.js';
import { readEither, readValue } from './peft-values.js';

function read(file: JsonObject): Partial<MosaConfig> {
  const text = <T extends string>(key: string, fallback: T): T => readValue<T>(file, key, 'string', fallback);
  const number = (key: string): number | null => readValue<number | null>(file, key, 'number', null);
  const kl = number('consistency_kl');
  return {
    style: text('style', defaults.style),
    bottleneckSize: number('bottleneck_size'),
    experts: readValue(file, 'experts', 'number', defaults.experts),
    share: text('share', defaults.share),
    merge: text('merge', defaults.merge),
    consistency:
      kl === null
        ? null
        : { kl, ce2: readValue(file, 'consistency_ce2', 'number', 0), deep: readValue(file, 'consistency_deep', 'number', 0) },
    biasMode: text('bias_mode', defaults.biasMode),
    scale: readEither<MosaConfig['scale']>(file, 'scale', 'number', 'learned', defaults.scale),
    dropout: number('adapter_dropout'),
    skipInactive: readValue(file, 'skip_inactive', 'boolean', defaults.skipInactive),
  };
}

/**
 * MoSA in files of the form of PEFT's, which has no such method: `peft_type` MOSA. Merged, an adapter has one expert and the tensors `PATH.adapter_mlp.down.weight`
 * [M, D], `PATH.adapter_mlp.up.weight` [D, M], their biases, those of `norm`, a learned `scale` [1], and the same of `adapter_attention`.
 */
export const peftMosa: PeftFormat<MosaConfig> = {
  keys: {
    method: 'mosa',
    style: defaults.style,
    bottleneck_size: defaults.bottleneckSize,
    experts: defaults.experts,
    share: defaults.share,
    merge: defaults.merge,
    consistency_kl: null,
    consistency_ce2: 0,
    consistency_deep: 0,
    bias_mode: defaults.biasMode,
    scale: defaults.scale,
    adapter_dropout: defaults.dropout,
    skip_inactive: defaults.skipInactive,
  },
  read,
  write: ({ style, bottleneckSize, experts, share, merge, consistency, biasMode, scale, dropout, skipInactive }) => ({
    method: 'mosa',
    style,
    bottleneck_size: bottleneckSize,
    experts,
    share,
    merge,
    consistency_kl: consistency === null ? null : (consistency.kl ?? 1),
    consistency_ce2: consistency?.ce2 ?? 0,
    consistency_deep: consistency?.deep ?? 0,
    bias_mode: biasMode,
    scale,
    adapter_dropout: dropout,
    skip_inactive: skipInactive,
  }),
};
