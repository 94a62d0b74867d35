/**
 * The Llama line of decoders (Llama 2 and 3, TinyLlama, SmolLM): pre-norm blocks of grouped-query attention with rotary positions and a gated MLP.
 * "LLaMA: Open and Efficient Foundation Language Models"; names and behaviour as in transformers' LlamaForCausalLM.
 */
import { z } from 'zod';
import { attend } from '../nn/attention.js';
import { type ForwardContext, inference } from '../nn/context.js';
import { Embedding } from '../nn/embedding.js';
import { forwardAll } from '../nn/forward-all.js';
import { Linear } from '../nn/linear.js';
import { Layer, ModuleList } from '../nn/module.js';
import { normOfSum, RmsNorm } from '../nn/norm.js';
import { contextLengthOf, rotate } from '../nn/rope.js';
import { sublayer } from '../nn/sublayer.js';
import { add } from '../ops/elementwise.js';
import { reshape } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';
import { CausalLanguageModel, DecoderStack, languageHead, type ModelShape } from './causal-language-model.js';
import { checkHeads, count, decoderKeys, flag, gateOf, headWidthOf, readConfig, readRope } from './config.js';

const keys = z.object({
  ...decoderKeys,
  num_key_value_heads: count.nullish(),
  head_dim: count.nullish(),
  attention_bias: flag.default(false),
  mlp_bias: flag.default(false),
});

export type LlamaConfig = z.infer<typeof keys>;

class LlamaAttention extends Layer {
  q_proj: Layer;
  k_proj: Layer;
  v_proj: Layer;
  o_proj: Layer;
  readonly #heads: number;
  readonly #groups: number;
  readonly #width: number;
  readonly #layer: number;

  constructor(config: LlamaConfig, layer: number) {
    super('attention');
    this.#heads = config.num_attention_heads;
    this.#groups = config.num_key_value_heads ?? config.num_attention_heads;
    this.#width = headWidthOf(config);
    this.#layer = layer;
    checkHeads(this.#heads, this.#groups);
    const hidden = config.hidden_size;
    const options = { bias: config.attention_bias, init: 'none' } as const;
    this.q_proj = new Linear(hidden, this.#heads * this.#width, { ...options, role: 'attention.query' });
    this.k_proj = new Linear(hidden, this.#groups * this.#width, { ...options, role: 'attention.key' });
    this.v_proj = new Linear(hidden, this.#groups * this.#width, { ...options, role: 'attention.value' });
    this.o_proj = new Linear(this.#heads * this.#width, hidden, { ...options, role: 'attention.output' });
  }

  /** x [B, T, D] to [B, T, D]. */
  override forward(x: Tensor, context: ForwardContext = inference): Tensor {
    const [batch = 0, time = 0] = x.shape;
    const split = (y: Tensor, heads: number): Tensor => reshape(y, [batch, time, heads, this.#width]);
    const [queries, keys, values] = forwardAll([this.q_proj, this.k_proj, this.v_proj], x, context);
    const q = rotate(split(queries, this.#heads), context);
    const k = rotate(split(keys, this.#groups), context);
    const v = split(values, this.#groups);
    const mixed = attend(q, k, v, context, { layer: this.#layer });
    return this.o_proj.forward(reshape(mixed, [batch, time, this.#heads * this.#width]), context);
  }
}

class LlamaMlp extends Layer {
  gate_proj: Layer;
  up_proj: Layer;
  down_proj: Layer;
  readonly #gate: (gate: Tensor, up: Tensor) => Tensor;

  constructor(config: LlamaConfig) {
    super('mlp');
    const { hidden_size: hidden, intermediate_size: inner } = config;
    const options = { bias: config.mlp_bias, init: 'none' } as const;
    this.#gate = gateOf(config.hidden_act);
    this.gate_proj = new Linear(hidden, inner, { ...options, role: 'mlp.gate' });
    this.up_proj = new Linear(hidden, inner, { ...options, role: 'mlp.up' });
    this.down_proj = new Linear(inner, hidden, { ...options, role: 'mlp.down' });
  }

  /** x [B, T, D] to [B, T, D]. */
  override forward(x: Tensor, context: ForwardContext = inference): Tensor {
    return this.down_proj.forward(this.#gate(...forwardAll([this.gate_proj, this.up_proj], x, context)), context);
  }
}

class LlamaBlock extends Layer {
  self_attn: Layer;
  mlp: Layer;
  input_layernorm: Layer;
  post_attention_layernorm: Layer;

  constructor(config: LlamaConfig, layer: number) {
    super('block');
    const norm = { epsilon: config.rms_norm_eps, init: 'none' } as const;
    this.self_attn = new LlamaAttention(config, layer);
    this.mlp = new LlamaMlp(config);
    this.input_layernorm = new RmsNorm(config.hidden_size, norm);
    this.post_attention_layernorm = new RmsNorm(config.hidden_size, norm);
  }

  /** x [B, T, D] to [B, T, D]. */
  override forward(x: Tensor, context: ForwardContext = inference): Tensor {
    const attention = { residual: x, input: this.input_layernorm.forward(x, context), context };
    const attended = sublayer('attention', attention, (input, inner) => this.self_attn.forward(input, inner));
    const { sum, normed } = normOfSum(this.post_attention_layernorm, x, attended, context);
    const mlp = { residual: sum, input: normed, context };
    return add(
      sum,
      sublayer('mlp', mlp, (input, inner) => this.mlp.forward(input, inner)),
    );
  }
}

class LlamaStack extends DecoderStack {
  embed_tokens: Layer;
  readonly layers: ModuleList<Layer>;
  norm: Layer;

  constructor(config: LlamaConfig, embedding: Embedding) {
    super();
    this.embed_tokens = embedding;
    this.layers = new ModuleList(Array.from({ length: config.num_hidden_layers }, (_, i) => new LlamaBlock(config, i)));
    this.norm = new RmsNorm(config.hidden_size, { epsilon: config.rms_norm_eps, init: 'none' });
  }
}

export class LlamaModel extends CausalLanguageModel {
  readonly model: DecoderStack;
  lm_head: Layer;
  readonly shape: ModelShape;

  constructor(config: LlamaConfig) {
    super(readRope(config, headWidthOf(config)));
    const embedding = new Embedding(config.vocab_size, config.hidden_size, { init: 'none' });
    this.model = new LlamaStack(config, embedding);
    this.lm_head = languageHead(embedding, config.tie_word_embeddings);
    this.shape = {
      vocabularySize: config.vocab_size,
      contextLength: contextLengthOf(this.rotary.parameters),
      hiddenSize: config.hidden_size,
      layers: config.num_hidden_layers,
      keyValueHeads: config.num_key_value_heads ?? config.num_attention_heads,
      headWidth: headWidthOf(config),
    };
  }
}

/** Reads a published `config.json`; throws `ConfigError` that names a missing or unsupported key. */
export function llama(config: unknown): LlamaModel {
  return new LlamaModel(readConfig(keys, config));
}
