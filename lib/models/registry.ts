import { ConfigError, didYouMean } from '../errors.js';
import type { CausalLanguageModel } from './causal-language-model.js';
import { llama } from './llama.js';
import { mistral } from './mistral.js';
import { qwen2 } from './qwen2.js';
import { qwen3 } from './qwen3.js';

/** The architectures by `model_type` of the published config; each makes a network without weights from it. */
export const architectures = { llama, mistral, qwen2, qwen3 } as const satisfies Record<string, (config: unknown) => CausalLanguageModel>;

export type ModelType = keyof typeof architectures;

/** A network without weights for a published config. Throws `ConfigError` for an unknown `model_type` and for missing or unsupported keys. */
export function createNetwork(config: { readonly [key: string]: unknown }): CausalLanguageModel {
  const type = config.model_type;
  const known = Object.keys(architectures);
  if (typeof type !== 'string') throw new ConfigError(`model config: key "model_type" is missing; known are ${known.join(', ')}`);
  if (!Object.hasOwn(architectures, type)) {
    throw new ConfigError(`model config: unknown "model_type" "${type}"; known are ${known.join(', ')}${didYouMean(type, known)}`);
  }
  return architectures[type as ModelType](config);
}
