import { ConfigError } from '../../errors.js';
import { headWidthOf, readRope } from '../../models/config.js';
import type { JsonObject } from '../json.js';
import type { GgufField } from './encoder.js';

/** What a GGUF file of a model says about its shape, and what must be done to its tensors. */
export interface GgufShape {
  /** `general.architecture`. */
  readonly architecture: string;
  /** Heads of q and k where their rows are stored in interleaved rotary order. */
  readonly interleaved: { readonly heads: number; readonly kvHeads: number } | undefined;
  readonly metadata: ReadonlyMap<string, GgufField>;
  /** The sliding window of all layers, where it is shorter than the context. `loadModel` reads it; llama.cpp does not. */
  readonly window: number | undefined;
  /** Factors on the rotary frequencies, where they are a tensor of the file. */
  readonly ropeFactors: Float32Array | undefined;
}

const architectures: Readonly<Record<string, string>> = { llama: 'llama', mistral: 'llama', qwen2: 'qwen2', qwen3: 'qwen3' };

const number = (config: JsonObject, key: string): number => {
  const value = config[key];
  if (typeof value !== 'number')
    throw new ConfigError(`gguf: "${key}" of the config must be a number; got ${JSON.stringify(value) ?? 'nothing'}`);
  return value;
};

/** The metadata of a model from its `config.json`. Throws `ConfigError` for an architecture or a rotary scaling without a GGUF form. */
export function ggufShape(config: JsonObject): GgufShape {
  const type = String(config.model_type);
  const architecture = Object.hasOwn(architectures, type) ? architectures[type] : undefined;
  if (architecture === undefined)
    throw new ConfigError(
      `gguf: models of type "${type}" have no GGUF form here; expected one of ${Object.keys(architectures).join(', ')}`,
    );
  if ((config.hidden_act ?? 'silu') !== 'silu')
    throw new ConfigError(`gguf: "hidden_act" must be silu; got ${JSON.stringify(config.hidden_act)}`);
  const heads = number(config, 'num_attention_heads');
  const kvHeads = typeof config.num_key_value_heads === 'number' ? config.num_key_value_heads : heads;
  const headWidth = headWidthOf(config as unknown as Parameters<typeof headWidthOf>[0]);
  const sizes: Record<string, GgufField> = {
    vocab_size: { type: 'u32', value: number(config, 'vocab_size') },
    context_length: { type: 'u32', value: number(config, 'max_position_embeddings') },
    embedding_length: { type: 'u32', value: number(config, 'hidden_size') },
    block_count: { type: 'u32', value: number(config, 'num_hidden_layers') },
    feed_forward_length: { type: 'u32', value: number(config, 'intermediate_size') },
    'attention.head_count': { type: 'u32', value: heads },
    'attention.head_count_kv': { type: 'u32', value: kvHeads },
    'attention.key_length': { type: 'u32', value: headWidth },
    'attention.value_length': { type: 'u32', value: headWidth },
    'attention.layer_norm_rms_epsilon': { type: 'f32', value: number(config, 'rms_norm_eps') },
    'rope.dimension_count': { type: 'u32', value: headWidth },
  };
  const window = slidingWindow(config, type);
  if (window !== undefined) sizes['attention.sliding_window'] = { type: 'u32', value: window };
  const rope = ropeFields(config, headWidth);
  const metadata = new Map(Object.entries({ ...sizes, ...rope.fields }).map(([key, field]) => [`${architecture}.${key}`, field]));
  return {
    architecture,
    interleaved: architecture === 'llama' ? { heads, kvHeads } : undefined,
    metadata,
    window: window !== undefined && window < number(config, 'max_position_embeddings') ? window : undefined,
    ropeFactors: rope.factors,
  };
}

/** The window that all layers share. */
function slidingWindow(config: JsonObject, type: string): number | undefined {
  const used = type === 'mistral' || config.use_sliding_window === true;
  const window = config.sliding_window;
  if (!used || typeof window !== 'number') return undefined;
  const types = Array.isArray(config.layer_types) ? new Set(config.layer_types) : new Set(['sliding_attention']);
  const from =
    typeof config.max_window_layers === 'number' && !Array.isArray(config.layer_types) && type !== 'mistral' ? config.max_window_layers : 0;
  if (from >= number(config, 'num_hidden_layers') || (types.size === 1 && types.has('full_attention'))) return undefined;
  if (from > 0 || types.size > 1) throw new ConfigError('gguf: a sliding window in some of the layers only has no GGUF form');
  return window;
}

function ropeFields(config: JsonObject, headWidth: number): { fields: Record<string, GgufField>; factors?: Float32Array | undefined } {
  const rope = readRope(config as unknown as Parameters<typeof readRope>[0], headWidth);
  const base: Record<string, GgufField> = { 'rope.freq_base': { type: 'f32', value: rope.theta } };
  const factor = rope.factor ?? 1;
  switch (rope.type) {
    case 'default':
      return { fields: base };
    case 'linear':
      return {
        fields: {
          ...base,
          'rope.scaling.type': { type: 'string', value: 'linear' },
          'rope.scaling.factor': { type: 'f32', value: factor },
        },
      };
    case 'yarn':
      return { fields: { ...base, ...yarnFields(rope, factor) } };
    case 'llama3':
      return { fields: base, factors: llama3Factors(rope, headWidth, factor) };
    default:
      throw new ConfigError(`gguf: rotary scaling "${rope.type}" has no GGUF form; expected default, linear, yarn or llama3`);
  }
}

type Rope = ReturnType<typeof readRope>;

function yarnFields(rope: Rope, factor: number): Record<string, GgufField> {
  if (rope.mscale !== undefined || rope.mscaleAllDim !== undefined || rope.truncate === false)
    throw new ConfigError('gguf: yarn with mscale or without truncation has no GGUF form here');
  const usual = factor > 1 ? 0.1 * Math.log(factor) + 1 : 1;
  return {
    'rope.scaling.type': { type: 'string', value: 'yarn' },
    'rope.scaling.factor': { type: 'f32', value: factor },
    'rope.scaling.original_context_length': { type: 'u32', value: rope.originalMaxPositions ?? rope.maxPositions },
    ...(rope.betaFast === undefined ? {} : { 'rope.scaling.yarn_beta_fast': { type: 'f32', value: rope.betaFast } }),
    ...(rope.betaSlow === undefined ? {} : { 'rope.scaling.yarn_beta_slow': { type: 'f32', value: rope.betaSlow } }),
    // In config.json the factor replaces the usual one; in GGUF it multiplies it.
    ...(rope.attentionFactor === undefined ? {} : { 'rope.scaling.attn_factor': { type: 'f32', value: rope.attentionFactor / usual } }),
  };
}

/** What each rotary frequency is divided by. */
function llama3Factors(rope: Rope, headWidth: number, factor: number): Float32Array {
  const low = rope.lowFrequencyFactor ?? 1;
  const high = rope.highFrequencyFactor ?? 4;
  const original = rope.originalMaxPositions ?? 8192;
  return Float32Array.from({ length: headWidth / 2 }, (_, i) => {
    const turns = (original * rope.theta ** ((-2 * i) / headWidth)) / (2 * Math.PI);
    if (turns > high) return 1;
    if (turns < low) return factor;
    const smooth = (turns - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}
