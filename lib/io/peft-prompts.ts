import type { PeftFormat } from '../adapters/adapter.js';
import type { PTuningConfig } from '../adapters/p-tuning.js';
import type { PrefixConfig } from '../adapters/prefix.js';
import type { PromptConfig } from '../adapters/prompt.js';
import { ConfigError } from '../errors.js';
import type { JsonObject } from './json.js';
import { readValue } from './peft-values.js';

/** Sizes of the model that PEFT finds again by itself; tensors say them too. */
const sizes = {
  num_virtual_tokens: null,
  token_dim: null,
  num_transformer_submodules: null,
  num_attention_heads: null,
  num_layers: null,
} as const;

/** Number of virtual tokens. Throws for a table for an encoder and a decoder together. */
function readTokens(file: JsonObject): number {
  const parts = readValue(file, 'num_transformer_submodules', 'number', 1);
  if (parts !== 1)
    throw new ConfigError(`adapter_config.json: "num_transformer_submodules" must be 1, for one decoder or encoder; got ${parts}`);
  const tokens = readValue<number | null>(file, 'num_virtual_tokens', 'number', null);
  if (tokens === null) throw new ConfigError('adapter_config.json: "num_virtual_tokens" is missing');
  return tokens;
}

function oneOf<T extends string>(file: JsonObject, key: string, fallback: T, values: Readonly<Record<string, T>>): T {
  const value = readValue<string | null>(file, key, 'string', null);
  if (value === null) return fallback;
  const found = Object.hasOwn(values, value) ? values[value] : undefined;
  if (found !== undefined) return found;
  throw new ConfigError(`adapter_config.json: "${key}" must be ${Object.keys(values).join(' or ')}; got ${JSON.stringify(value)}`);
}

/** Not a key of PEFT, and never written: to be added to a file whose table is that of BLOOM. */
const kOrder = 'prefix_order';

export const peftPrefix: PeftFormat<PrefixConfig> = {
  keys: { ...sizes, encoder_hidden_size: null, prefix_projection: false, init_weights: null },
  read: (file) => {
    const projection = readValue(file, 'prefix_projection', 'boolean', false);
    return {
      virtualTokens: readTokens(file),
      projection,
      projectionSize: projection ? readValue<number | null>(file, 'encoder_hidden_size', 'number', null) : null,
      init: oneOf(file, 'init_weights', 'random', { zero: 'zero' }),
      order: oneOf(file, kOrder, 'layers', { layers: 'layers', keys_first: 'keys-first' }),
    };
  },
  write: ({ virtualTokens, projection, projectionSize, init }) => ({
    num_virtual_tokens: virtualTokens,
    num_transformer_submodules: 1,
    prefix_projection: projection,
    encoder_hidden_size: projectionSize,
    init_weights: init === 'zero' ? 'zero' : null,
  }),
};

/** What a prompt started from is gone once it is trained, and a file that speaks of a text needs the name of a tokenizer: a new one says `RANDOM`. */
export const peftPrompt: PeftFormat<PromptConfig> = {
  keys: { ...sizes, prompt_tuning_init: 'RANDOM', prompt_tuning_init_text: null, tokenizer_name_or_path: null, tokenizer_kwargs: null },
  read: (file) => {
    oneOf(file, 'prompt_tuning_init', 'random', { RANDOM: 'random', TEXT: 'text', SAMPLE_VOCAB: 'vocabulary' });
    return { virtualTokens: readTokens(file) };
  },
  write: ({ virtualTokens }) => ({ num_virtual_tokens: virtualTokens, num_transformer_submodules: 1 }),
};

export const peftPTuning: PeftFormat<PTuningConfig> = {
  keys: { ...sizes, encoder_reparameterization_type: 'MLP', encoder_hidden_size: null, encoder_num_layers: 2, encoder_dropout: 0 },
  read: (file) => ({
    virtualTokens: readTokens(file),
    encoder: oneOf(file, 'encoder_reparameterization_type', 'mlp', { MLP: 'mlp', LSTM: 'lstm' }),
    encoderSize: readValue<number | null>(file, 'encoder_hidden_size', 'number', null),
    encoderLayers: readValue(file, 'encoder_num_layers', 'number', 2),
    encoderDropout: readValue(file, 'encoder_dropout', 'number', 0),
  }),
  write: (config) => ({
    num_virtual_tokens: config.virtualTokens,
    num_transformer_submodules: 1,
    encoder_reparameterization_type: config.encoder.toUpperCase(),
    encoder_hidden_size: config.encoderSize,
    encoder_num_layers: config.encoderLayers,
    encoder_dropout: config.encoderDropout,
  }),
};
