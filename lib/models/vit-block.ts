/** The pre-norm blocks of ViT and AST, and the encoder that they make, by the names of their published weights. */
import { type ForwardContext, inference } from '../nn/context.js';
import { Dropout } from '../nn/dropout.js';
import { Linear } from '../nn/linear.js';
import { Layer, Module, ModuleList } from '../nn/module.js';
import { LayerNorm, normOfSum } from '../nn/norm.js';
import type { Role } from '../nn/role.js';
import { sublayer } from '../nn/sublayer.js';
import type { TokenNetwork } from '../nn/virtual-tokens.js';
import { add } from '../ops/elementwise.js';
import type { Tensor } from '../tensor.js';
import { activationOf } from './config.js';
import { attendToAll, checkWidth } from './patch-encoder.js';
import { runEncoder } from './run-encoder.js';

/** Whether weights are random, or left out for a loader to give. */
export type Init = 'none' | 'random';

export interface VitBlockConfig {
  readonly hidden_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly intermediate_size: number;
  readonly hidden_act: string;
  readonly hidden_dropout_prob: number;
  readonly layer_norm_eps: number;
  readonly qkv_bias: boolean;
}

/** A linear layer under the name `dense`. */
class Dense extends Module {
  dense: Layer;

  constructor(inFeatures: number, outFeatures: number, role: Role, init: Init) {
    super();
    this.dense = new Linear(inFeatures, outFeatures, { role, init });
  }
}

class VitProjections extends Module {
  query: Layer;
  key: Layer;
  value: Layer;

  constructor({ hidden_size: width, qkv_bias: bias }: VitBlockConfig, init: Init) {
    super();
    this.query = new Linear(width, width, { bias, init, role: 'attention.query' });
    this.key = new Linear(width, width, { bias, init, role: 'attention.key' });
    this.value = new Linear(width, width, { bias, init, role: 'attention.value' });
  }
}

class VitAttention extends Layer {
  readonly attention: VitProjections;
  readonly output: Dense;
  readonly #heads: number;
  readonly #layer: number;

  constructor(config: VitBlockConfig, layer: number, init: Init) {
    super('attention');
    checkWidth('hidden_size', config.hidden_size, 'num_attention_heads', config.num_attention_heads);
    this.attention = new VitProjections(config, init);
    this.output = new Dense(config.hidden_size, config.hidden_size, 'attention.output', init);
    this.#heads = config.num_attention_heads;
    this.#layer = layer;
  }

  /** x [B, T, D] to [B, T, D]. */
  override forward(x: Tensor, context: ForwardContext = inference): Tensor {
    const { query, key, value } = this.attention;
    const [q, k, v] = [query.forward(x, context), key.forward(x, context), value.forward(x, context)];
    return this.output.dense.forward(attendToAll(q, k, v, this.#heads, context, this.#layer), context);
  }
}

class VitBlock extends Layer {
  attention: Layer;
  readonly intermediate: Dense;
  readonly output: Dense;
  layernorm_before: Layer;
  layernorm_after: Layer;
  readonly #activation: (x: Tensor) => Tensor;
  readonly #dropout: Dropout;

  constructor(config: VitBlockConfig, layer: number, init: Init) {
    super('block');
    const { hidden_size: width, intermediate_size: inner } = config;
    this.#activation = activationOf(config.hidden_act);
    this.#dropout = new Dropout(config.hidden_dropout_prob);
    this.attention = new VitAttention(config, layer, init);
    this.intermediate = new Dense(width, inner, 'mlp.up', init);
    this.output = new Dense(inner, width, 'mlp.down', init);
    const norm = { epsilon: config.layer_norm_eps, init } as const;
    this.layernorm_before = new LayerNorm(width, norm);
    this.layernorm_after = new LayerNorm(width, norm);
  }

  /** x [B, T, D] to [B, T, D]. */
  override forward(x: Tensor, context: ForwardContext = inference): Tensor {
    const before = this.layernorm_before.forward(x, context);
    const attended = sublayer('attention', { residual: x, input: before, context }, (input, inner) => this.#attend(input, inner));
    const { sum, normed } = normOfSum(this.layernorm_after, x, attended, context);
    return add(
      sum,
      sublayer('mlp', { residual: sum, input: normed, context }, (input, inner) => this.#feed(input, inner)),
    );
  }

  #attend(x: Tensor, context: ForwardContext): Tensor {
    return this.#dropout.forward(this.attention.forward(x, context), context);
  }

  #feed(x: Tensor, context: ForwardContext): Tensor {
    const wide = this.#activation(this.intermediate.dense.forward(x, context));
    return this.#dropout.forward(this.output.dense.forward(wide, context), context);
  }
}

/** The name that transformers from version 5 on has for a module of ViT or AST. */
export const newerVitName = (path: string): string =>
  path
    .replace('.encoder.layer.', '.layers.')
    .replace(/\.attention\.attention\.(query|key|value)$/, (_, name: string) => `.attention.${name[0]}_proj`)
    .replace(/\.attention\.output\.dense$/, '.attention.o_proj')
    .replace(/\.intermediate\.dense$/, '.mlp.fc1')
    .replace(/\.output\.dense$/, '.mlp.fc2');

/** The blocks, as `encoder.layer.N`. */
class VitBlocks extends Module {
  readonly layer: ModuleList<Layer>;

  constructor(config: VitBlockConfig, init: Init) {
    super();
    this.layer = new ModuleList(Array.from({ length: config.num_hidden_layers }, (_, i) => new VitBlock(config, i, init)));
  }

  /** x [B, T, D] to what the head of `network` reads, [B, T', D]. */
  forward(x: Tensor, context: ForwardContext, network: TokenNetwork): Tensor {
    return runEncoder(network, this.layer, x, context);
  }
}

/** The network below the head, on the embeddings of images or spectrograms. */
export class VitEncoder<Embeddings extends Layer> extends Module {
  readonly embeddings: Embeddings;
  readonly encoder: VitBlocks;
  layernorm: Layer;

  constructor(config: VitBlockConfig, embeddings: Embeddings, init: Init) {
    super();
    this.embeddings = embeddings;
    this.encoder = new VitBlocks(config, init);
    this.layernorm = new LayerNorm(config.hidden_size, { epsilon: config.layer_norm_eps, init });
  }

  /** Images or spectrograms to hidden states [B, T', D]. */
  forward(input: Tensor, context: ForwardContext, network: TokenNetwork): Tensor {
    return this.layernorm.forward(this.encoder.forward(this.embeddings.forward(input, context), context, network), context);
  }
}
