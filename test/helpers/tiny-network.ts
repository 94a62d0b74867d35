import { Embedding, type ForwardContext, inference, Linear, Module, type RowAdapters } from '#dist/nn/index.js';
import { normal } from '#dist/ops/create.js';
import { add, relu } from '#dist/ops/elementwise.js';
import type { DType, Tensor } from '#dist/tensor.js';

export const kWidth = 12;
export const kVocabulary = 20;

/** Two linear layers with roles, an embedding and a tied head: what adapters need, without a language model. */
export class TinyNetwork extends Module {
  embed: Embedding;
  q_proj: Linear;
  down_proj: Linear;
  head: Linear;

  constructor(dtype: DType = 'f32', bias = true) {
    super();
    this.embed = new Embedding(kVocabulary, kWidth, { dtype, seed: 1 });
    this.q_proj = new Linear(kWidth, 2 * kWidth, { dtype, bias, seed: 2, role: 'attention.query' });
    this.down_proj = new Linear(2 * kWidth, kWidth, { dtype, bias, seed: 3, role: 'mlp.down' });
    this.head = Linear.tied(this.embed, { role: 'head' });
    this.freeze();
  }

  /** Ids i64 [B, T] to logits [B, T, V]. */
  forward(ids: Tensor, context: ForwardContext = inference): Tensor {
    const x = this.embed.forward(ids, context);
    return this.head.forward(add(x, this.hidden(x, context)), context);
  }

  hidden(x: Tensor, context: ForwardContext = inference): Tensor {
    return this.down_proj.forward(relu(this.q_proj.forward(x, context)), context);
  }
}

/** Reproducible normal values. */
export const noise = (shape: readonly number[], seed: number, dtype: DType = 'f32'): Tensor => normal(shape, { seed, dtype });

export const routed = (rows: RowAdapters, training = false): ForwardContext => ({ training, rows });
