import { z } from 'zod';
import { ConfigError, editDistance } from '../errors.js';
import { type Activation, activations } from '../nn/activations.js';
import type { RopeParameters } from '../nn/rope.js';
import { swiGlu } from '../ops/activation.js';
import { mul, silu } from '../ops/elementwise.js';
import type { Tensor } from '../tensor.js';

export const count = z.int().positive();
export const flag = z.boolean();

/** A config that asks for more layers is broken: the network alone would fill the memory before a weight is read. */
export const kMostLayers = 4096;

/** Keys that every decoder of the Llama line publishes, as spelled in `config.json`. */
export const decoderKeys = {
  model_type: z.string(),
  vocab_size: count,
  hidden_size: count,
  intermediate_size: count,
  num_hidden_layers: count.max(kMostLayers),
  num_attention_heads: count,
  max_position_embeddings: count,
  rms_norm_eps: z.number().positive(),
  hidden_act: z.string().default('silu'),
  tie_word_embeddings: flag.default(false),
  bos_token_id: z.union([z.int(), z.array(z.int())]).nullish(),
  eos_token_id: z.union([z.int(), z.array(z.int())]).nullish(),
  rope_theta: z.number().positive().nullish(),
  rope_scaling: z.record(z.string(), z.unknown()).nullish(),
  rope_parameters: z.record(z.string(), z.unknown()).nullish(),
  partial_rotary_factor: z.number().nullish(),
  original_max_position_embeddings: count.nullish(),
};

/**
 * Reads a published config: unknown keys are left out, as publishers add their own; a missing or wrong key, and one that is all but the name of a key that is
 * not there, is a `ConfigError` that names it.
 */
export function readConfig<S extends z.ZodObject>(schema: S, raw: unknown): z.infer<S> {
  refuseMisspelt(Object.keys(schema.shape), raw);
  const result = schema.safeParse(raw);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => {
    const key = issue.path.join('.');
    const got = valueAt(raw, issue.path);
    return got === undefined ? `key "${key}" is missing` : `key "${key}" is wrong; got ${JSON.stringify(got)}, ${issue.message}`;
  });
  throw new ConfigError(`model config: ${problems.join('; ')}`);
}

/** Letters by which a misspelt key differs at most. */
const kSlips = 2;

function refuseMisspelt(known: readonly string[], raw: unknown): void {
  if (typeof raw !== 'object' || raw === null) return;
  const absent = known.filter((key) => key.length > 2 * kSlips && !Object.hasOwn(raw, key));
  for (const key of Object.keys(raw)) {
    if (known.includes(key)) continue;
    const meant = absent.find((name) => Math.abs(name.length - key.length) <= kSlips && editDistance(name, key) <= kSlips);
    if (meant !== undefined) throw new ConfigError(`model config: unknown key "${key}"; did you mean "${meant}"?`);
  }
}

function valueAt(raw: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, key) => (typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined),
    raw,
  );
}

/** The width of a head: published as `head_dim`, or the hidden size shared out among the heads. */
export function headWidthOf(config: { head_dim?: number | null | undefined; hidden_size: number; num_attention_heads: number }): number {
  if (config.head_dim != null) return config.head_dim;
  if (config.hidden_size % config.num_attention_heads !== 0) {
    throw new ConfigError(
      `model config: "hidden_size" must be a multiple of "num_attention_heads" where "head_dim" is not given; got ${config.hidden_size} and ${config.num_attention_heads}`,
    );
  }
  return config.hidden_size / config.num_attention_heads;
}

/** Throws unless query heads share key-value heads evenly. */
export function checkHeads(heads: number, groups: number): void {
  if (heads % groups !== 0) {
    throw new ConfigError(`model config: "num_attention_heads" must be a multiple of "num_key_value_heads"; got ${heads} and ${groups}`);
  }
}

/** Activations that published models have. */
const hiddenActs = ['silu', 'swish', 'gelu', 'gelu_tanh', 'gelu_new', 'gelu_fast', 'gelu_pytorch_tanh', 'quick_gelu', 'relu', 'tanh'];

/** The activation of a published name. Throws `ConfigError` for an unknown one. */
export function activationOf(name: string): Activation {
  const activation = hiddenActs.includes(name) ? activations[name] : undefined;
  if (activation !== undefined) return activation;
  throw new ConfigError(`model config: unknown "hidden_act" "${name}"; known are ${hiddenActs.join(', ')}`);
}

/** Element-wise gate of an MLP by the published name of its activation: activation(gate) * up. */
export function gateOf(name: string): (gate: Tensor, up: Tensor) => Tensor {
  const activation = activationOf(name);
  return activation === silu ? swiGlu : (gate, up) => mul(activation(gate), up);
}

const ropeTypes = ['default', 'linear', 'dynamic', 'llama3', 'yarn'] as const;

const ropeKeys = z.object({
  rope_theta: z.number().positive().nullish(),
  factor: z.number().positive().nullish(),
  original_max_position_embeddings: count.nullish(),
  low_freq_factor: z.number().nullish(),
  high_freq_factor: z.number().nullish(),
  beta_fast: z.number().nullish(),
  beta_slow: z.number().nullish(),
  attention_factor: z.number().nullish(),
  mscale: z.number().nullish(),
  mscale_all_dim: z.number().nullish(),
  truncate: flag.nullish(),
  partial_rotary_factor: z.number().nullish(),
});

interface RopeSource {
  readonly max_position_embeddings: number;
  readonly rope_theta?: number | null | undefined;
  readonly rope_scaling?: Record<string, unknown> | null | undefined;
  readonly rope_parameters?: Record<string, unknown> | null | undefined;
  readonly partial_rotary_factor?: number | null | undefined;
  readonly original_max_position_embeddings?: number | null | undefined;
}

/** Gathers rotary settings from either spelling: `rope_theta` beside `rope_scaling` (with `type` or `rope_type`), or one `rope_parameters` object. */
export function readRope(config: RopeSource, headWidth: number): RopeParameters {
  const raw = config.rope_scaling ?? config.rope_parameters ?? {};
  const type = (raw.rope_type ?? raw.type ?? 'default') as (typeof ropeTypes)[number];
  if (!ropeTypes.includes(type))
    throw new ConfigError(`model config: unknown rope type ${JSON.stringify(type)}; known are ${ropeTypes.join(', ')}`);
  const keys = readConfig(ropeKeys, raw);
  const partial = keys.partial_rotary_factor ?? config.partial_rotary_factor ?? 1;
  if (partial !== 1) throw new ConfigError(`model config: "partial_rotary_factor" other than 1 is not supported; got ${partial}`);
  const original = config.original_max_position_embeddings ?? keys.original_max_position_embeddings ?? config.max_position_embeddings;
  const stretched = type === 'yarn' ? config.max_position_embeddings / original : undefined;
  return withoutNull({
    type,
    theta: keys.rope_theta ?? config.rope_theta ?? 10000,
    headWidth,
    maxPositions: config.max_position_embeddings,
    factor: keys.factor ?? stretched,
    originalMaxPositions: original,
    lowFrequencyFactor: keys.low_freq_factor,
    highFrequencyFactor: keys.high_freq_factor,
    betaFast: keys.beta_fast,
    betaSlow: keys.beta_slow,
    attentionFactor: keys.attention_factor,
    mscale: keys.mscale,
    mscaleAllDim: keys.mscale_all_dim,
    truncate: keys.truncate,
  });
}

function withoutNull(settings: { [K in keyof RopeParameters]: RopeParameters[K] | null | undefined }): RopeParameters {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value != null)) as unknown as RopeParameters;
}

/** The window of each layer from `layer_types`, or from `use_sliding_window`, `sliding_window` and `max_window_layers`; undefined where attention is full. */
export function windowsOf(config: {
  num_hidden_layers: number;
  use_sliding_window: boolean;
  sliding_window?: number | null | undefined;
  max_window_layers: number;
  layer_types?: string[] | null | undefined;
}): (number | undefined)[] {
  const window = config.use_sliding_window ? (config.sliding_window ?? undefined) : undefined;
  const types = config.layer_types;
  if (types == null)
    return Array.from({ length: config.num_hidden_layers }, (_, i) => (i >= config.max_window_layers ? window : undefined));
  if (types.length !== config.num_hidden_layers) {
    throw new ConfigError(
      `model config: "layer_types" must name every layer; got ${types.length} entries, expected ${config.num_hidden_layers}`,
    );
  }
  return types.map((type) => {
    if (type === 'full_attention') return undefined;
    if (type !== 'sliding_attention') {
      throw new ConfigError(`model config: unknown entry "${type}" in "layer_types"; known are full_attention, sliding_attention`);
    }
    if (window === undefined)
      throw new ConfigError('model config: "layer_types" has sliding_attention; got no "sliding_window" in use, expected one');
    return window;
  });
}
