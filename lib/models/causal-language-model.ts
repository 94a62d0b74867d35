import type { ForwardContext } from '../nn/context.js';
import type { Embedding } from '../nn/embedding.js';
import { Linear, retie } from '../nn/linear.js';
import { type Layer, Module, type ModuleList } from '../nn/module.js';
import { type RopeParameters, RotaryEmbedding } from '../nn/rope.js';
import { TokenNetwork } from '../nn/virtual-tokens.js';
import type { Tensor } from '../tensor.js';
import { runBlock } from './run-block.js';

/** What the code around a model needs to know of it, whatever its architecture. */
export interface ModelShape {
  readonly vocabularySize: number;
  readonly contextLength: number;
  readonly hiddenSize: number;
  readonly layers: number;
  readonly keyValueHeads: number;
  readonly headWidth: number;
}

/** The decoder stack inside a language model: `model.embed_tokens`, `model.layers`, `model.norm`. */
export abstract class DecoderStack extends Module {
  abstract embed_tokens: Layer;
  abstract readonly layers: ModuleList<Layer>;
  abstract norm: Layer;

  /** Ids i64 [B, T] to hidden states [B, T, D] after the final norm. */
  forward(ids: Tensor, context: ForwardContext): Tensor {
    const { front } = context;
    const tokens = this.embed_tokens.forward(ids, context);
    let hidden = front?.join(tokens) ?? tokens;
    for (const [number, layer] of [...this.layers].entries()) hidden = runBlock(layer, hidden, front?.at(number, context) ?? context);
    return this.norm.forward(front?.withoutVirtual(hidden) ?? hidden, context);
  }
}

/** Base of the decoder-only language models; one file an architecture says what is inside. */
export abstract class CausalLanguageModel extends TokenNetwork {
  abstract readonly model: DecoderStack;
  abstract lm_head: Layer;
  abstract override readonly shape: ModelShape;
  /** The rotary tables of all layers. */
  readonly rotary: RotaryEmbedding;

  constructor(rope: RopeParameters) {
    super();
    this.rotary = new RotaryEmbedding(rope);
  }

  /** Ids i64 [B, T] to hidden states [B, T, D], which `head` turns into logits. */
  forward(ids: Tensor, context: ForwardContext): Tensor {
    return this.model.forward(ids, context);
  }

  /** Hidden states [..., D] to logits [..., V]. */
  head(hidden: Tensor, context: ForwardContext): Tensor {
    return this.lm_head.forward(hidden, context);
  }

  /** The weights of a checkpoint that this network reads: without the rotary tables that old files carry, and without a second copy of a tied head. */
  sanitize<T>(weights: ReadonlyMap<string, T>): Map<string, T> {
    const tied = this.lm_head instanceof Linear && this.lm_head.tiedTo !== undefined;
    return new Map([...weights].filter(([name]) => !name.endsWith('.rotary_emb.inv_freq') && !(tied && name === 'lm_head.weight')));
  }

  /** Takes the weights of tied layers anew from their owners; needed after those were loaded or changed. */
  retie(): void {
    retie(this);
  }

  override dispose(): void {
    super.dispose();
    this.rotary.dispose();
  }
}

/** The head of a language model: tied to the embedding, or with a weight of its own. */
export function languageHead(embedding: Embedding, tied: boolean): Linear {
  return tied
    ? Linear.tied(embedding, { role: 'head' })
    : new Linear(embedding.width, embedding.size, { bias: false, role: 'head', init: 'none' });
}
