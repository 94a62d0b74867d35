import { ConfigError, didYouMean, FormatError } from '../../errors.js';
import type { JsonObject } from '../json.js';
import { GgufMetadata } from './metadata.js';
import { ropeFactorsName } from './names.js';
import type { GgufHeader } from './parser.js';

/** How an architecture of GGUF is called in `config.json`, and whether its q and k rows are stored in interleaved rotary order. */
interface Family {
  readonly modelType: string;
  readonly architecture: string;
  readonly interleaved: boolean;
}

const families: { readonly [name: string]: Family } = {
  llama: { modelType: 'llama', architecture: 'LlamaForCausalLM', interleaved: true },
  qwen2: { modelType: 'qwen2', architecture: 'Qwen2ForCausalLM', interleaved: false },
  qwen3: { modelType: 'qwen3', architecture: 'Qwen3ForCausalLM', interleaved: false },
};

/** A GGUF model's config in the keys of a Hugging Face `config.json`, with what is needed to read its weights. */
export interface GgufConfig {
  readonly config: JsonObject;
  readonly interleaved: { readonly heads: number; readonly kvHeads: number } | undefined;
}

/**
 * Builds the config of a model from GGUF metadata. `ropeFactors` are the values of the tensor `rope_freqs.weight` where the file has one.
 *
 * Mistral models come as architecture llama with a sliding window. Throws `ConfigError` for an architecture or rotary scaling that is not supported,
 * `FormatError` for missing or contradictory metadata.
 */
export function ggufConfig(header: GgufHeader, ropeFactors?: ArrayLike<number>): GgufConfig {
  const metadata = new GgufMetadata(header);
  const name = metadata.required('general.architecture', metadata.text);
  const family = Object.hasOwn(families, name) ? families[name] : undefined;
  if (family === undefined) {
    throw new ConfigError(
      `${header.file}: architecture "${name}" is not supported${didYouMean(name, Object.keys(families))}; expected one of ${Object.keys(families).join(', ')}`,
    );
  }
  if ((metadata.whole(`${name}.expert_count`) ?? 0) > 0)
    throw new ConfigError(`${header.file}: mixtures of experts are not supported; got ${name}.expert_count > 0`);
  const heads = metadata.required(`${name}.attention.head_count`, (key) => metadata.uniform(key, 1));
  const kvHeads = metadata.uniform(`${name}.attention.head_count_kv`, 1) ?? heads;
  const hidden = metadata.required(`${name}.embedding_length`, (key) => metadata.whole(key, 1));
  const headDim = headDimOf(header, metadata, name, hidden / heads);
  const window = metadata.whole(`${name}.attention.sliding_window`) ?? 0;
  const mistral = window > 0 && name === 'llama';
  const config = {
    model_type: mistral ? 'mistral' : family.modelType,
    architectures: [mistral ? 'MistralForCausalLM' : family.architecture],
    hidden_size: hidden,
    intermediate_size: metadata.required(`${name}.feed_forward_length`, (key) => metadata.uniform(key, 1)),
    num_hidden_layers: metadata.required(`${name}.block_count`, (key) => metadata.whole(key, 1)),
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
    hidden_act: 'silu',
    rms_norm_eps: metadata.required(`${name}.attention.layer_norm_rms_epsilon`, metadata.number),
    max_position_embeddings: metadata.required(`${name}.context_length`, (key) => metadata.whole(key, 1)),
    vocab_size: vocabularyOf(header, metadata, name),
    tie_word_embeddings: !header.tensors.has('output.weight'),
    attention_bias: header.tensors.has('blk.0.attn_q.bias'),
    mlp_bias: header.tensors.has('blk.0.ffn_gate.bias'),
    ...ropeOf(header, metadata, name, headDim, ropeFactors),
    ...(window > 0 ? { sliding_window: window, use_sliding_window: true } : {}),
    ...specialIds(metadata),
  };
  return { config, interleaved: family.interleaved ? { heads, kvHeads } : undefined };
}

function headDimOf(header: GgufHeader, metadata: GgufMetadata, name: string, fromWidth: number): number {
  const headDim = metadata.whole(`${name}.attention.key_length`, 1) ?? fromWidth;
  const valueDim = metadata.whole(`${name}.attention.value_length`, 1) ?? headDim;
  if (!Number.isInteger(headDim))
    throw new FormatError(`${header.file}: the width is no multiple of the number of heads, and "${name}.attention.key_length" is missing`);
  if (valueDim !== headDim)
    throw new ConfigError(`${header.file}: keys and values of different width are not supported; got ${headDim} and ${valueDim}`);
  const rotary = metadata.whole(`${name}.rope.dimension_count`, 1) ?? headDim;
  if (rotary !== headDim)
    throw new ConfigError(`${header.file}: rotating a part of each head is not supported; got ${rotary} of ${headDim} dimensions`);
  return headDim;
}

function vocabularyOf(header: GgufHeader, metadata: GgufMetadata, name: string): number {
  const size = header.tensors.get('token_embd.weight')?.shape[0] ?? metadata.whole(`${name}.vocab_size`, 1);
  if (size === undefined) throw new FormatError(`${header.file}: tensor "token_embd.weight" is missing`);
  return size;
}

function specialIds(metadata: GgufMetadata): JsonObject {
  const ids: Record<string, number> = {};
  for (const [key, name] of [
    ['bos_token_id', 'bos'],
    ['eos_token_id', 'eos'],
    ['pad_token_id', 'padding'],
  ] as const) {
    const id = metadata.whole(`tokenizer.ggml.${name}_token_id`);
    if (id !== undefined) ids[key] = id;
  }
  return ids;
}

function ropeOf(
  header: GgufHeader,
  metadata: GgufMetadata,
  name: string,
  headDim: number,
  factors: ArrayLike<number> | undefined,
): JsonObject {
  const theta = { rope_theta: metadata.number(`${name}.rope.freq_base`) ?? 10000 };
  if (factors !== undefined) return { ...theta, rope_scaling: llama3Scaling(header.file, theta.rope_theta, headDim, factors) };
  const type = metadata.text(`${name}.rope.scaling.type`) ?? (metadata.has(`${name}.rope.scale_linear`) ? 'linear' : 'none');
  const factor = metadata.number(`${name}.rope.scaling.factor`) ?? metadata.number(`${name}.rope.scale_linear`) ?? 1;
  if (type === 'none' || (type === 'linear' && factor === 1)) return theta;
  if (type === 'linear') return { ...theta, rope_scaling: { rope_type: 'linear', factor } };
  if (type !== 'yarn') throw new ConfigError(`${header.file}: rotary scaling "${type}" is not supported; expected none, linear or yarn`);
  const scaling: Record<string, unknown> = { rope_type: 'yarn', factor };
  for (const [key, from] of [
    ['original_max_position_embeddings', 'original_context_length'],
    ['beta_fast', 'yarn_beta_fast'],
    ['beta_slow', 'yarn_beta_slow'],
  ] as const) {
    const value = metadata.number(`${name}.rope.scaling.${from}`);
    if (value !== undefined) scaling[key] = value;
  }
  // In GGUF the factor multiplies the usual one; in config.json it replaces it.
  const attention = metadata.number(`${name}.rope.scaling.attn_factor`) ?? metadata.number(`${name}.rope.scaling.yarn_attn_factor`) ?? 1;
  if (attention !== 1) scaling.attention_factor = attention * (factor > 1 ? 0.1 * Math.log(factor) + 1 : 1);
  return { ...theta, rope_scaling: scaling };
}

/**
 * The llama3 scaling whose per-frequency factors are these. The file keeps only the factors; the published models of that kind share all parameters
 * but the factor, which is the largest of the values.
 */
function llama3Scaling(file: string, theta: number, headDim: number, factors: ArrayLike<number>): JsonObject {
  if (factors.length !== headDim / 2)
    throw new FormatError(`${file}: tensor "${ropeFactorsName}" has the wrong size; got ${factors.length} values, expected ${headDim / 2}`);
  const factor = Number(Math.max(...Array.from(factors)).toPrecision(6));
  const scaling = { rope_type: 'llama3', factor, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };
  for (let i = 0; i < factors.length; i++) {
    const expected = llama3Factor(theta ** ((-2 * i) / headDim), scaling);
    if (!(Math.abs((factors[i] ?? Number.NaN) - expected) <= 1e-4 * expected)) {
      throw new ConfigError(
        `${file}: the factors of "${ropeFactorsName}" are not those of a llama3 scaling; got ${factors[i]} at ${i}, expected ${expected}`,
      );
    }
  }
  return scaling;
}

function llama3Factor(
  frequency: number,
  scaling: { factor: number; low_freq_factor: number; high_freq_factor: number; original_max_position_embeddings: number },
): number {
  const turns = (scaling.original_max_position_embeddings * frequency) / (2 * Math.PI);
  if (turns > scaling.high_freq_factor) return 1;
  if (turns < scaling.low_freq_factor) return scaling.factor;
  const smooth = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  return 1 / ((1 - smooth) / scaling.factor + smooth);
}
