import { ConfigError, didYouMean } from '../errors.js';
import { ast } from './ast.js';
import { bert } from './bert-heads.js';
import type { EncoderArchitecture, EncoderNetwork, EncoderTask, HeadOptions } from './encoder.js';
import { kwt } from './kwt.js';
import { timmVit } from './timm-vit.js';
import { vit } from './vit.js';

/** The encoder architectures by `model_type` of the published config. */
export const encoders: Readonly<Record<string, EncoderArchitecture>> = {
  bert,
  vit,
  timm_vit: timmVit,
  kwt,
  'audio-spectrogram-transformer': ast,
};

/** `model_type` of a config; those of timm and of KWT, which have none, are told by their `architecture`. */
export function modelTypeOf({ model_type, architecture }: { readonly [key: string]: unknown }): unknown {
  if (model_type !== undefined || typeof architecture !== 'string') return model_type;
  return architecture.startsWith('vit_') ? 'timm_vit' : architecture;
}

/**
 * A network without weights for a published config and a task. Throws `ConfigError` for an unknown `model_type`, a task that the architecture has no head for, and
 * missing or unsupported keys.
 */
export function createEncoder(config: { readonly [key: string]: unknown }, task: EncoderTask, head: HeadOptions = {}): EncoderNetwork {
  const type = modelTypeOf(config);
  const known = Object.keys(encoders);
  const architecture = typeof type === 'string' && Object.hasOwn(encoders, type) ? encoders[type] : undefined;
  if (architecture === undefined) {
    const near = typeof type === 'string' ? didYouMean(type, known) : '';
    throw new ConfigError(`model config: "model_type" is of no encoder; got ${JSON.stringify(type)}, expected ${known.join(', ')}${near}`);
  }
  const make = architecture.tasks[task];
  if (make === undefined) {
    const tasks = Object.keys(architecture.tasks).join(', ');
    throw new ConfigError(`model config: "${type}" has no head for the task "${task}"; expected ${tasks}`);
  }
  return make(config, head);
}
