/**
 * BERT and the encoders of its form (MiniLM, sentence encoders): post-norm blocks of full attention with learned positions and token types.
 * "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding"; names and behaviour as in transformers' BertModel, but that the probabilities of
 * attention are never dropped.
 */
import { z } from 'zod';
import { ConfigError, InvalidArgumentError } from '../errors.js';
import { attend } from '../nn/attention.js';
import { type ForwardContext, inference } from '../nn/context.js';
import { Dropout } from '../nn/dropout.js';
import { Embedding } from '../nn/embedding.js';
import { forwardAll } from '../nn/forward-all.js';
import { Linear } from '../nn/linear.js';
import { Layer, Module, ModuleList } from '../nn/module.js';
import { LayerNorm, normOfSum } from '../nn/norm.js';
import type { Role } from '../nn/role.js';
import { sublayer } from '../nn/sublayer.js';
import type { TokenNetwork } from '../nn/virtual-tokens.js';
import { arange, zeros } from '../ops/create.js';
import { add, tanh } from '../ops/elementwise.js';
import { expand, reshape, select } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';
import { activationOf, count, flag, headWidthOf, kMostLayers, readConfig } from './config.js';
import type { EncoderInput, EncoderShape } from './encoder.js';
import { runEncoder } from './run-encoder.js';

const probability = z.number().min(0).lt(1);

const keys = z.object({
  model_type: z.string(),
  vocab_size: count,
  hidden_size: count,
  num_hidden_layers: count.max(kMostLayers),
  num_attention_heads: count,
  intermediate_size: count,
  hidden_act: z.string().default('gelu'),
  max_position_embeddings: count,
  type_vocab_size: count.default(2),
  layer_norm_eps: z.number().positive().default(1e-12),
  hidden_dropout_prob: probability.default(0.1),
  classifier_dropout: probability.nullish(),
  initializer_range: z.number().positive().default(0.02),
  position_embedding_type: z.string().default('absolute'),
  is_decoder: flag.default(false),
  tie_word_embeddings: flag.default(true),
  id2label: z.record(z.string(), z.string()).nullish(),
});

export type BertConfig = z.infer<typeof keys>;

/** Reads a published `config.json`; throws `ConfigError` that names a missing or unsupported key. */
export function readBertConfig(config: unknown): BertConfig {
  const read = readConfig(keys, config);
  if (read.position_embedding_type !== 'absolute')
    throw new ConfigError(`model config: "position_embedding_type" must be absolute; got "${read.position_embedding_type}"`);
  if (read.is_decoder) throw new ConfigError('model config: "is_decoder" must be false for an encoder; got true');
  return read;
}

export const shapeOf = (config: BertConfig): EncoderShape => ({
  hiddenSize: config.hidden_size,
  layers: config.num_hidden_layers,
  heads: config.num_attention_heads,
  contextLength: config.max_position_embeddings,
  vocabularySize: config.vocab_size,
});

export const normOf = (config: BertConfig): LayerNorm =>
  new LayerNorm(config.hidden_size, { epsilon: config.layer_norm_eps, init: 'none' });

const linear = (inFeatures: number, outFeatures: number, role?: Role): Linear =>
  new Linear(inFeatures, outFeatures, { init: 'none', ...(role && { role }) });

class BertEmbeddings extends Module {
  word_embeddings: Layer;
  position_embeddings: Layer;
  token_type_embeddings: Layer;
  LayerNorm: Layer;
  readonly #dropout: Dropout;
  /** The table of words, whatever stands for its layer. */
  readonly words: () => Embedding;

  constructor(config: BertConfig) {
    super();
    const table = (size: number): Embedding => new Embedding(size, config.hidden_size, { init: 'none' });
    const words = table(config.vocab_size);
    this.word_embeddings = words;
    this.position_embeddings = table(config.max_position_embeddings);
    this.token_type_embeddings = table(config.type_vocab_size);
    this.LayerNorm = normOf(config);
    this.#dropout = new Dropout(config.hidden_dropout_prob);
    this.words = () => words;
  }

  /** Ids and token types i64 [B, T] to [B, T, D], or [B, W + T, D] with virtual tokens in front. */
  forward(ids: Tensor, tokenTypes: Tensor | undefined, context: ForwardContext): Tensor {
    const { shape } = ids;
    const { front } = context;
    const positions = context.positions ?? front?.positions(shape[1] ?? 0) ?? expand(arange(shape[1] ?? 0, { dtype: 'i64' }), shape);
    const types = tokenTypes ?? expand(zeros([1, 1], { dtype: 'i64' }), shape);
    const words = this.word_embeddings.forward(ids, context);
    const parts = add(front?.join(words) ?? words, this.token_type_embeddings.forward(front?.joinIds(types) ?? types, context));
    const { normed } = normOfSum(this.LayerNorm, parts, this.position_embeddings.forward(positions, context), context);
    return this.#dropout.forward(normed, context);
  }
}

class BertSelfAttention extends Layer {
  query: Layer;
  key: Layer;
  value: Layer;
  readonly #heads: number;
  readonly #width: number;
  readonly #layer: number;

  constructor(config: BertConfig, layer: number) {
    super();
    const hidden = config.hidden_size;
    this.#heads = config.num_attention_heads;
    this.#width = headWidthOf(config);
    this.#layer = layer;
    this.query = linear(hidden, hidden, 'attention.query');
    this.key = linear(hidden, hidden, 'attention.key');
    this.value = linear(hidden, hidden, 'attention.value');
  }

  /** x [B, T, D] to what the heads read [B, T, D]. */
  override forward(x: Tensor, context: ForwardContext = inference): Tensor {
    const { shape } = x;
    const split = (y: Tensor): Tensor => reshape(y, [shape[0] ?? 0, shape[1] ?? 0, this.#heads, this.#width]);
    const [q, k, v] = forwardAll([this.query, this.key, this.value], x, context);
    return reshape(attend(split(q), split(k), split(v), context, { layer: this.#layer, causal: false }), shape);
  }
}

/** What follows a sub-layer: a projection whose result is added to the stream, and the norm of the sum. */
class BertOutput extends Module {
  dense: Layer;
  LayerNorm: Layer;
  readonly #dropout: Dropout;

  constructor(config: BertConfig, inFeatures: number, role: Role) {
    super();
    this.dense = linear(inFeatures, config.hidden_size, role);
    this.LayerNorm = normOf(config);
    this.#dropout = new Dropout(config.hidden_dropout_prob);
  }

  project(x: Tensor, context: ForwardContext): Tensor {
    return this.#dropout.forward(this.dense.forward(x, context), context);
  }
}

class BertAttention extends Layer {
  self: Layer;
  readonly output: BertOutput;

  constructor(config: BertConfig, layer: number) {
    super('attention');
    this.self = new BertSelfAttention(config, layer);
    this.output = new BertOutput(config, config.hidden_size, 'attention.output');
  }

  /** x [B, T, D] to what is added to it [B, T, D]. */
  override forward(x: Tensor, context: ForwardContext = inference): Tensor {
    return this.output.project(this.self.forward(x, context), context);
  }
}

class BertIntermediate extends Module {
  dense: Layer;

  constructor(config: BertConfig) {
    super();
    this.dense = linear(config.hidden_size, config.intermediate_size, 'mlp.up');
  }
}

class BertBlock extends Layer {
  attention: Layer;
  readonly intermediate: BertIntermediate;
  readonly output: BertOutput;
  /** Where the attention keeps the norm of the sum, whatever stands for its layer. */
  readonly #attended: BertOutput;
  readonly #activation: (x: Tensor) => Tensor;

  constructor(config: BertConfig, layer: number) {
    super('block');
    const attention = new BertAttention(config, layer);
    this.attention = attention;
    this.intermediate = new BertIntermediate(config);
    this.output = new BertOutput(config, config.intermediate_size, 'mlp.down');
    this.#attended = attention.output;
    this.#activation = activationOf(config.hidden_act);
  }

  /** x [B, T, D] to [B, T, D]. */
  override forward(x: Tensor, context: ForwardContext = inference): Tensor {
    const attention = { residual: x, input: x, context };
    const changed = sublayer('attention', attention, (input, inner) => this.attention.forward(input, inner));
    const { normed: attended } = normOfSum(this.#attended.LayerNorm, x, changed, context);
    const mlp = { residual: attended, input: attended, context };
    const added = sublayer('mlp', mlp, (input, inner) =>
      this.output.project(this.#activation(this.intermediate.dense.forward(input, inner)), inner),
    );
    return normOfSum(this.output.LayerNorm, attended, added, context).normed;
  }
}

class BertEncoder extends Module {
  readonly layer: ModuleList<Layer>;

  constructor(config: BertConfig) {
    super();
    this.layer = new ModuleList(Array.from({ length: config.num_hidden_layers }, (_, i) => new BertBlock(config, i)));
  }
}

class BertPooler extends Module {
  dense: Layer;

  constructor(config: BertConfig) {
    super();
    this.dense = linear(config.hidden_size, config.hidden_size);
  }

  /** Hidden states [B, T, D] to tanh of a projection of the first token's [B, D]. */
  forward(hidden: Tensor, context: ForwardContext): Tensor {
    return tanh(this.dense.forward(select(hidden, 1, 0), context));
  }
}

/** The parts of a BERT without a head, under their published names. */
export class BertModel extends Module {
  readonly embeddings: BertEmbeddings;
  readonly encoder: BertEncoder;
  readonly pooler?: BertPooler;

  constructor(config: BertConfig, { pooler }: { readonly pooler: boolean }) {
    super();
    this.embeddings = new BertEmbeddings(config);
    this.encoder = new BertEncoder(config);
    if (pooler) this.pooler = new BertPooler(config);
  }

  /** Hidden states [B, T, D] of the last block, with the virtual tokens of `network` and of the context. */
  forward(input: EncoderInput, context: ForwardContext, network: TokenNetwork): Tensor {
    const hidden = this.whole(input, context, network);
    return context.front?.withoutVirtual(hidden) ?? hidden;
  }

  /** The same with those of embeddings in front, [B, W + T, D]. */
  whole(input: EncoderInput, context: ForwardContext, network: TokenNetwork): Tensor {
    if (!('ids' in input)) throw new InvalidArgumentError(`bert: the input must be token ids; got ${Object.keys(input).join(', ')}`);
    return runEncoder(network, this.encoder.layer, this.embeddings.forward(input.ids, input.tokenTypes, context), context);
  }
}

/** The newer spelling of a name: early files call the weight and bias of norms `gamma` and `beta`. */
const newName = (name: string): string =>
  name.replace(/\.LayerNorm\.gamma$/, '.LayerNorm.weight').replace(/\.LayerNorm\.beta$/, '.LayerNorm.bias');

/** Where the heads of transformers' classes have their weights. */
const kHeads = /^(cls|classifier|qa_outputs)\./;

/** The weights of the bare encoder by names without prefix, those of heads by their own, and all that is neither as it is; buffers go. */
export function splitWeights<T>(weights: ReadonlyMap<string, T>): {
  readonly base: Map<string, T>;
  readonly heads: Map<string, T>;
  readonly unknown: Map<string, T>;
} {
  const base = new Map<string, T>();
  const heads = new Map<string, T>();
  const unknown = new Map<string, T>();
  for (const [stored, value] of weights) {
    const name = newName(stored);
    const bare = name.replace(/^bert\./, '');
    if (bare.endsWith('.position_ids') || bare.endsWith('.token_type_ids')) continue;
    if (/^(embeddings|encoder|pooler)\./.test(bare)) base.set(bare, value);
    else (kHeads.test(name) ? heads : unknown).set(name, value);
  }
  return { base, heads, unknown };
}
