import { throwIfAborted } from '../errors.js';
import { type LanguageModel, wide } from '../model.js';
import type { KeyValueCache } from '../nn/cache.js';
import { tensor } from '../ops/create.js';
import { clone } from '../ops/elementwise.js';
import { embedding } from '../ops/index-ops.js';
import { repetitionPenalty, type SampledTokens, sample } from '../ops/sampling.js';
import { reshape } from '../ops/shape.js';
import { noGrad, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { DecodeStep } from './decode-step.js';
import type { Settings } from './options.js';

/** A token chosen for a row, with the logarithms of its probability for the model and for the draw. */
export interface Choice {
  readonly id: number;
  readonly logProbability: number;
  readonly drawLogProbability: number;
}

/** One sequence on its way. */
interface Row {
  readonly ids: number[];
  readonly seed: number;
  /** Tokens that the cache has not seen. */
  pending: readonly number[];
}

/** Generates token by token for a batch of rows: one pass over all prompts, then one token a row and step. Owns its cache. */
export class Decoder {
  readonly #model: LanguageModel;
  readonly #settings: Settings;
  readonly #cache: KeyValueCache;
  #rows: Row[];
  #step = 0;
  #pass: DecodeStep | undefined;

  constructor(model: LanguageModel, prompts: readonly (readonly number[])[], settings: Settings) {
    this.#model = model;
    this.#settings = settings;
    this.#rows = prompts.map((ids, b) => ({ ids: [...ids], seed: settings.seed + b, pending: ids }));
    const longest = Math.max(...prompts.map((ids) => ids.length));
    this.#cache = model.cache(prompts.length, Math.min(longest + settings.maxNewTokens, model.network.shape.contextLength));
  }

  /** Chooses the next token of every row, in order. */
  async next(): Promise<Choice[]> {
    throwIfAborted(this.#settings.signal, 'generate');
    const [ids, model, draw] = await scope(async () => {
      const chosen = noGrad(() => this.#choose());
      return Promise.all([chosen.ids.data(), chosen.rawLogProbabilities.data(), chosen.logProbabilities.data()]);
    });
    const choices = this.#rows.map((_, b) => ({
      id: Number(ids[b]),
      logProbability: Number(model[b]),
      drawLogProbability: Number(draw[b]),
    }));
    for (const [b, { id }] of choices.entries()) {
      this.#rows[b]?.ids.push(id);
      if (this.#rows[b] !== undefined) this.#rows[b].pending = [id];
    }
    this.#step++;
    return choices;
  }

  /** Goes on with these rows only (by their place in the last step). */
  keepRows(places: readonly number[]): void {
    if (places.length === this.#rows.length) return;
    this.#dropPass();
    this.#rows = places.flatMap((place) => this.#rows[place] ?? []);
    if (places.length > 0) this.#cache.keepRows(places);
  }

  #choose(): SampledTokens {
    const { temperature, topK, topP, processors, repetitionPenalty: penalty } = this.#settings;
    const ids = this.#rows.map((row) => row.ids);
    let logits = this.#logits();
    if (penalty !== 1) logits = repetitionPenalty(logits, ids, penalty);
    else if (processors.length > 0) logits = clone(logits);
    for (const process of processors) logits = process(logits, ids);
    return sample(logits, { temperature, topK, topP, seed: this.#rows.map((row) => row.seed), step: this.#step });
  }

  /** Logits [B, V] after the pending tokens: in one pass over the prompts, then token by token. */
  #logits(): Tensor {
    const { adapters } = this.#settings;
    const pending = this.#rows.map((row) => row.pending);
    const options = { training: false, cache: this.#cache, ...(adapters && { rows: pending.map(() => adapters) }) };
    if (this.#step > 0) {
      this.#pass ??= new DecodeStep(this.#model, this.#cache, options);
      return this.#pass.logits(pending.map(([id = 0]) => id));
    }
    return this.#model.head(wide(lastOf(this.#model.forward(pending, options), pending)), options);
  }

  #dropPass(): void {
    this.#pass?.dispose();
    this.#pass = undefined;
  }

  dispose(): void {
    this.#dropPass();
    this.#cache.dispose();
  }
}

/** Hidden states [B, T, D] of the last token of each row: [B, D]. */
function lastOf(hidden: Tensor, rows: readonly (readonly number[])[]): Tensor {
  const [batch = 0, time = 0, width = 0] = hidden.shape;
  const places = BigInt64Array.from(rows, (row, b) => BigInt(b * time + row.length - 1));
  return embedding(reshape(hidden, [batch * time, width]), tensor(places));
}
