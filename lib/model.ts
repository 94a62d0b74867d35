import { ShapeError } from './errors.js';
import type { JsonObject } from './io/json.js';
import type { Tokenizer } from './io/tokenizer.js';
import { type LoadedAs, LoadedModel, type LoadedParts } from './loaded-model.js';
import { type Batch, type ForwardOptions, makeBatch, type TokenRows } from './models/batch.js';
import type { CausalLanguageModel } from './models/causal-language-model.js';
import { languageLoss, nextTokens, targetTensor } from './models/language-loss.js';
import { KeyValueCache } from './nn/cache.js';
import { cachedVirtualLength } from './nn/virtual-tokens.js';
import { cast } from './ops/elementwise.js';
import type { Reduction } from './ops/loss.js';
import { noGrad, scope } from './scope.js';
import type { Device, DType, Tensor } from './tensor.js';

export interface LossInput extends ForwardOptions {
  /** Token ids by row. */
  readonly ids: TokenRows;
  /**
   * What should follow each token: targets[b][t] after ids[b][t], -100 where nothing is to be learnt. Default: the next token of the row (and of the same
   * document).
   */
  readonly targets?: TokenRows;
  /** `mean` over all targets (default), their `sum`, or `none`: one loss a place, [B, T]. */
  readonly reduction?: Reduction;
}

/** What training, generation and evaluation need; a plain model and one with adapters both have it. */
export interface LanguageModel {
  readonly network: CausalLanguageModel;
  readonly tokenizer: Tokenizer;
  readonly hasTokenizer: boolean;
  readonly config: JsonObject;
  readonly device: Device;
  readonly dtype: DType;
  /** `dtype`, `compute` and `layout` that it was loaded with, where they were given. */
  readonly loadedAs?: LoadedAs | undefined;
  /** Ids whose appearance ends a generated text. */
  readonly endTokens: readonly number[];
  logits(ids: TokenRows, options?: Pick<ForwardOptions, 'rows' | 'tasks'>): Tensor;
  forward(ids: TokenRows, options?: ForwardOptions): Tensor;
  head(hidden: Tensor, options?: ForwardOptions): Tensor;
  loss(input: LossInput): Tensor;
  cache(rows: number, capacity: number): KeyValueCache;
}

/** Tells a language model from an encoder with the head of a task. */
export const isLanguageModel = <M extends object>(model: M): model is Extract<M, LanguageModel> => !('task' in model);

export interface ModelParts extends LoadedParts<CausalLanguageModel> {
  readonly endTokens: readonly number[];
}

/**
 * A causal language model with its tokenizer: what `loadModel` returns. B rows, T tokens, D hidden width, V vocabulary. Owns the weights: `dispose()` releases
 * them. Its weights are frozen until something unfreezes them.
 */
export class Model extends LoadedModel<CausalLanguageModel> implements LanguageModel {
  readonly endTokens: readonly number[];

  constructor(parts: ModelParts) {
    super(parts);
    this.endTokens = parts.endTokens;
  }

  /** Logits [B, T, V] in f32 (f64 for an f64 model) for rows of equal length, without gradient. */
  logits(ids: TokenRows, options: Pick<ForwardOptions, 'rows' | 'tasks'> = {}): Tensor {
    const lengths = new Set(ids.map((row) => row.length));
    if (lengths.size > 1) throw new ShapeError(`logits: rows must have equal lengths; got ${[...lengths].join(', ')}`);
    this.checkAlive('logits');
    return noGrad(() =>
      scope(() => {
        const { ids: padded, context } = makeBatch(this.network, ids, { ...options, training: false });
        return this.network.head(wide(this.network.forward(padded, context)), context);
      }),
    );
  }

  /** Hidden states [B, T, D] after the final norm, on the tape; rows are padded on the right to the longest. */
  forward(ids: TokenRows, options: ForwardOptions = {}): Tensor {
    return scope(() => this.#pass(this.#batch('forward', ids, options)));
  }

  /** Hidden states [..., D] to logits [..., V], on the tape. */
  head(hidden: Tensor, options: ForwardOptions = {}): Tensor {
    this.checkAlive('head');
    const { training = this.network.training, rows, tasks } = options;
    return this.network.head(hidden, { training, ...(rows && { rows }), ...(tasks && { tasks }) });
  }

  /** Cross-entropy of the targets on the tape: a number, or [B, T] without reduction; in f32 (f64 for an f64 model). */
  loss(input: LossInput): Tensor {
    const { ids, documents, reduction = 'mean' } = input;
    return scope(() => {
      const batch = this.#batch('loss', ids, input);
      const [rows = 0, width = 0] = batch.ids.shape;
      const targets = targetTensor(input.targets ?? nextTokens(ids, documents), rows, width, this.network.shape.vocabularySize, reduction);
      return languageLoss(this.network, this.#pass(batch), targets, batch.context, reduction);
    });
  }

  /** An empty key-value cache for `rows` rows of at most `capacity` tokens beside virtual ones, to be given to `forward`. */
  cache(rows: number, capacity: number): KeyValueCache {
    const { layers, keyValueHeads, headWidth } = this.network.shape;
    return new KeyValueCache({
      rows,
      capacity: capacity + cachedVirtualLength(this.network),
      layers,
      keyValueHeads,
      headWidth,
      dtype: this.dtype,
    });
  }

  #batch(what: string, ids: TokenRows, options: ForwardOptions): Batch {
    this.checkAlive(what);
    return makeBatch(this.network, ids, options);
  }

  #pass({ ids, context, lengths }: Batch): Tensor {
    const hidden = this.network.forward(ids, context);
    context.cache?.advance(lengths);
    return hidden;
  }
}

/** Logits are computed in f32 at least: the steps of the 16-bit types are too wide for probabilities. */
export const wide = (hidden: Tensor): Tensor => (hidden.dtype === 'bf16' || hidden.dtype === 'f16' ? cast(hidden, 'f32') : hidden);
