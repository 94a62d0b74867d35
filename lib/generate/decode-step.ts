import { Capture } from '../capture.js';
import type { LanguageModel } from '../model.js';
import { wide } from '../model.js';
import type { ForwardOptions } from '../models/batch.js';
import type { KeyValueCache } from '../nn/cache.js';
import { tensor } from '../ops/create.js';
import { copyInto, reshape } from '../ops/shape.js';
import { keep, unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';

/**
 * The pass that takes one new token a row to its logits. All passes of a batch are the same work on the same memory but for the tokens, so the first one is
 * captured and the others are launched from it, which costs JavaScript next to nothing. Weights, and which adapters are active, are those of the first pass.
 * Owns what it keeps.
 */
export class DecodeStep {
  readonly #model: LanguageModel;
  readonly #cache: KeyValueCache;
  readonly #options: ForwardOptions;
  /** i64 [B, 1]. */
  readonly #ids: Tensor;
  #captured: { readonly capture: Capture; readonly logits: Tensor } | undefined;
  #repeatable = true;

  constructor(model: LanguageModel, cache: KeyValueCache, options: ForwardOptions) {
    this.#model = model;
    this.#cache = cache;
    this.#options = options;
    this.#ids = unscoped(() => tensor(new BigInt64Array(cache.lengths.length), { shape: [cache.lengths.length, 1] }));
  }

  /** Logits [B, V] after `tokens`, i64 [B]. They are overwritten by the next call. */
  logits(tokens: Tensor): Tensor {
    copyInto(this.#ids, reshape(tokens, this.#ids.shape));
    if (this.#captured === undefined) return this.#firstLogits();
    const { capture, logits } = this.#captured;
    this.#cache.count(this.#cache.lengths.map(() => 1));
    capture.launch([logits]);
    return logits;
  }

  #firstLogits(): Tensor {
    const rows = this.#cache.lengths.length;
    const pass = (): Tensor => {
      const hidden = this.#model.forward(
        this.#cache.lengths.map(() => [0]),
        { ...this.#options, nextIds: this.#ids },
      );
      return this.#model.head(wide(reshape(hidden, [rows, hidden.shape[2] ?? 0])), this.#options);
    };
    if (!this.#repeatable) return pass();
    const { result: logits, capture } = Capture.of(pass);
    if (capture === undefined) this.#repeatable = false;
    else this.#captured = { capture, logits: keep(logits) };
    return logits;
  }

  dispose(): void {
    this.#captured?.capture.dispose();
    this.#captured?.logits.dispose();
    this.#captured = undefined;
    this.#ids.dispose();
  }
}
