/** Configs of published models, for random weights of their shapes: the shapes that the peer script knows. */
export type ShapeName = keyof typeof shapes;

const llama = { model_type: 'llama', hidden_act: 'silu', rms_norm_eps: 1e-5, rope_theta: 10000 };
const qwen = { model_type: 'qwen2', hidden_act: 'silu', rms_norm_eps: 1e-6, rope_theta: 1000000 };

const heads = (queries: number, keys: number) => ({ num_attention_heads: queries, num_key_value_heads: keys });
const sizes = (vocabulary: number, hidden: number, inner: number, layers: number, context: number) => ({
  vocab_size: vocabulary,
  hidden_size: hidden,
  intermediate_size: inner,
  num_hidden_layers: layers,
  max_position_embeddings: context,
});

export const shapes = {
  stories260k: { ...llama, ...sizes(512, 64, 172, 5, 512), ...heads(8, 4), tie_word_embeddings: true },
  stories15m: { ...llama, ...sizes(32000, 288, 768, 6, 256), ...heads(6, 6), tie_word_embeddings: true },
  'smollm2-135m': { ...llama, ...sizes(49152, 576, 1536, 30, 8192), ...heads(9, 3), tie_word_embeddings: true },
  'smollm2-360m': { ...llama, ...sizes(49152, 960, 2560, 32, 8192), ...heads(15, 5), tie_word_embeddings: true },
  'qwen2.5-0.5b': { ...qwen, ...sizes(151936, 896, 4864, 24, 32768), ...heads(14, 2), tie_word_embeddings: true },
  'tinyllama-1.1b': { ...llama, ...sizes(32000, 2048, 5632, 22, 2048), ...heads(32, 4), tie_word_embeddings: false },
} as const;
