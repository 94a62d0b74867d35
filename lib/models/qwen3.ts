/**
 * Qwen3 decoders: the Llama block with an explicit head width and an RMS norm on each query and key head.
 * "Qwen3 Technical Report"; names and behaviour as in transformers' Qwen3ForCausalLM.
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
import { checkHeads, count, decoderKeys, flag, gateOf, headWidthOf, readConfig, readRope, windowsOf } from './config.js';

const keys = z.object({
  ...decoderKeys,
  num_key_value_heads: count,
  head_dim: count,
  attention_bias: flag.default(false),
  use_sliding_window: flag.default(false),
  sliding_window: count.nullish(),
  max_window_layers: z.int().min(0).default(28),
  layer_types: z.array(z.string()).nullish(),
});

export type Qwen3Config = z.infer<typeof keys>;

class Qwen3Attention extends Layer {
  q_proj: Layer;
  k_proj: Layer;
  v_proj: Layer;
  o_proj: Layer;
  q_norm: Layer;
  k_norm: Layer;
  readonly #heads: number;
  readonly #groups: number;
  readonly #width: number;
  readonly #layer: number;
  readonly #window: number | undefined;

  constructor(config: Qwen3Config, layer: number) {
    super('attention');
    this.#heads = config.num_attention_heads;
    this.#groups = config.num_key_value_heads;
    this.#width = headWidthOf(config);
    this.#layer = layer;
    this.#window = windowsOf(config)[layer];
    checkHeads(this.#heads, this.#groups);
    const hidden = config.hidden_size;
    const options = { bias: config.attention_bias, init: 'none' } as const;
    this.q_proj = new Linear(hidden, this.#heads * this.#width, { ...options, role: 'attention.query' });
    this.k_proj = new Linear(hidden, this.#groups * this.#width, { ...options, role: 'attention.key' });
    this.v_proj = new Linear(hidden, this.#groups * this.#width, { ...options, role: 'attention.value' });
    this.o_proj = new Linear(this.#heads * this.#width, hidden, { ...options, role: 'attention.output' });
    const norm = { epsilon: config.rms_norm_eps, init: 'none' } as const;
    this.q_norm = new RmsNorm(this.#width, norm);
    this.k_norm = new RmsNorm(this.#width, norm);
  }

  /** x [B, T, D] to [B, T, D]. */
  override forward(x: Tensor, context: ForwardContext = inference): Tensor {
    const [batch = 0, time = 0] = x.shape;
    const split = (y: Tensor, heads: number): Tensor => reshape(y, [batch, time, heads, this.#width]);
    const [queries, keys, values] = forwardAll([this.q_proj, this.k_proj, this.v_proj], x, context);
    const q = rotate(this.q_norm.forward(split(queries, this.#heads), context), context);
    const k = rotate(this.k_norm.forward(split(keys, this.#groups), context), context);
    const v = split(values, this.#groups);
    const mixed = attend(q, k, v, context, { layer: this.#layer, window: this.#window });
    return this.o_proj.forward(reshape(mixed, [batch, time, this.#heads * this.#width]), context);
  }
}

class Qwen3Mlp extends Layer {
  gate_proj: Layer;
  up_proj: Layer;
  down_proj: Layer;
  readonly #gate: (gate: Tensor, up: Tensor) => Tensor;

  constructor(config: Qwen3Config) {
    super('mlp');
    const { hidden_size: hidden, intermediate_size: inner } = config;
    const options = { bias: false, init: 'none' } as const;
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

class Qwen3Block extends Layer {
  self_attn: Layer;
  mlp: Layer;
  input_layernorm: Layer;
  post_attention_layernorm: Layer;

  constructor(config: Qwen3Config, layer: number) {
    super('block');
    const norm = { epsilon: config.rms_norm_eps, init: 'none' } as const;
    this.self_attn = new Qwen3Attention(config, layer);
    this.mlp = new Qwen3Mlp(config);
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

class Qwen3Stack extends DecoderStack {
  embed_tokens: Layer;
  readonly layers: ModuleList<Layer>;
  norm: Layer;

  constructor(config: Qwen3Config, embedding: Embedding) {
    super();
    this.embed_tokens = embedding;
    this.layers = new ModuleList(Array.from({ length: config.num_hidden_layers }, (_, i) => new Qwen3Block(config, i)));
    this.norm = new RmsNorm(config.hidden_size, { epsilon: config.rms_norm_eps, init: 'none' });
  }
}

export class Qwen3Model extends CausalLanguageModel {
  readonly model: DecoderStack;
  lm_head: Layer;
  readonly shape: ModelShape;

  constructor(config: Qwen3Config) {
    super(readRope(config, headWidthOf(config)));
    const embedding = new Embedding(config.vocab_size, config.hidden_size, { init: 'none' });
    this.model = new Qwen3Stack(config, embedding);
    this.lm_head = languageHead(embedding, config.tie_word_embeddings);
    this.shape = {
      vocabularySize: config.vocab_size,
      contextLength: contextLengthOf(this.rotary.parameters),
      hiddenSize: config.hidden_size,
      layers: config.num_hidden_layers,
      keyValueHeads: config.num_key_value_heads,
      headWidth: headWidthOf(config),
    };
  }
}

/** Reads a published `config.json`; throws `ConfigError` that names a missing or unsupported key. */
export function qwen3(config: unknown): Qwen3Model {
  return new Qwen3Model(readConfig(keys, config));
}
