import type { LanguageModel, LossInput, Model } from '../model.js';
import type { ForwardOptions, TokenRows } from '../models/batch.js';
import type { KeyValueCache } from '../nn/cache.js';
import type { Tensor } from '../tensor.js';
import { Tuned } from './tuned.js';

/**
 * A model with adapters: what `attach` and `loadAdapter` return. Computes like a model, and saves, merges and switches its adapters. There is one for each
 * model, and it changes the model itself: both compute the same. Owns the adapters, not the model: `dispose()` takes the adapters off.
 */
export class TunedModel extends Tuned<Model> implements LanguageModel {
  /** The tuned form of a model: the one it has, or a new one without adapters. */
  static of(model: Model | TunedModel): TunedModel {
    if (model instanceof TunedModel) return model.usable();
    return (Tuned.on(model) as TunedModel | undefined) ?? new TunedModel(model);
  }

  get endTokens(): readonly number[] {
    return this.model.endTokens;
  }

  /** Logits [B, T, V] in f32 for rows of equal length, without gradient, by the active adapters or those that `rows` names for each row. */
  logits(ids: TokenRows, options?: Pick<ForwardOptions, 'rows' | 'tasks'>): Tensor {
    return this.live('logits').logits(ids, options);
  }

  /** Hidden states [B, T, D] after the final norm, on the tape. */
  forward(ids: TokenRows, options?: ForwardOptions): Tensor {
    return this.live('forward').forward(ids, options);
  }

  /** Hidden states [..., D] to logits [..., V], on the tape. */
  head(hidden: Tensor, options?: ForwardOptions): Tensor {
    return this.live('head').head(hidden, options);
  }

  /** Cross-entropy of the targets, a number on the tape. */
  loss(input: LossInput): Tensor {
    return this.live('loss').loss(input);
  }

  cache(rows: number, capacity: number): KeyValueCache {
    return this.live('cache').cache(rows, capacity);
  }
}
