import { throwIfAborted } from '../errors.js';
import { type LanguageModel, wide } from '../model.js';
import type { ForwardOptions } from '../models/batch.js';
import type { KeyValueCache } from '../nn/cache.js';
import type { TaskId } from '../nn/context.js';
import { tensor } from '../ops/create.js';
import { clone } from '../ops/elementwise.js';
import { embedding } from '../ops/index-ops.js';
import { repetitionPenalty, type SampledTokens, sample } from '../ops/sampling.js';
import { reshape } from '../ops/shape.js';
import { disposeTensors, keep, noGrad, scope } from '../scope.js';
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
  /** The choice after the one that was given out last, while the engine works on it. */
  #ahead: SampledTokens | undefined;

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
    const chosen = this.#ahead ?? this.#choose();
    this.#ahead = undefined;
    this.#step++;
    // Reads are queued before the work of the next token, which goes on while JavaScript looks at this one.
    const reads = Promise.all([chosen.ids.data(), chosen.rawLogProbabilities.data(), chosen.logProbabilities.data()]);
    if (this.#mayGoAhead()) this.#ahead = this.#choose(chosen.ids);
    disposeTensors(Object.values(chosen));
    const [ids, model, draw] = await reads;
    const choices = this.#rows.map((_, b) => ({
      id: Number(ids[b]),
      logProbability: Number(model[b]),
      drawLogProbability: Number(draw[b]),
    }));
    for (const [b, { id }] of choices.entries()) {
      this.#rows[b]?.ids.push(id);
      if (this.#rows[b] !== undefined) this.#rows[b].pending = [id];
    }
    return choices;
  }

  /** Goes on with these rows only (by their place in the last step). */
  keepRows(places: readonly number[]): void {
    if (places.length === this.#rows.length) return;
    this.#dropPass();
    this.#rows = places.flatMap((place) => this.#rows[place] ?? []);
    if (places.length > 0) this.#cache.keepRows(places);
  }

  /** Whether the next pass needs nothing from JavaScript but that it is wanted, which for one row only its end can change. */
  #mayGoAhead(): boolean {
    const { processors, repetitionPenalty: penalty } = this.#settings;
    const [length = 0] = this.#cache.lengths;
    return this.#rows.length === 1 && penalty === 1 && processors.length === 0 && length + 1 < this.#cache.shape.capacity;
  }

  /** The tokens after the pending ones, or after `last`, i64 [B]. The caller owns them. */
  #choose(last?: Tensor): SampledTokens {
    const { temperature, topK, topP, processors, repetitionPenalty: penalty } = this.#settings;
    return scope(() =>
      noGrad(() => {
        const ids = this.#rows.map((row) => row.ids);
        let logits = this.#logits(last);
        if (penalty !== 1) logits = repetitionPenalty(logits, ids, penalty);
        else if (processors.length > 0) logits = clone(logits);
        for (const process of processors) logits = process(logits, ids);
        const chosen = sample(logits, { temperature, topK, topP, seed: this.#rows.map((row) => row.seed), step: this.#step });
        for (const tensor of Object.values(chosen)) keep(tensor);
        return chosen;
      }),
    );
  }

  /** Logits [B, V] after the pending tokens: in one pass over the prompts, then token by token. */
  #logits(last?: Tensor): Tensor {
    const pending = this.#rows.map((row) => row.pending);
    const options = passOptions(this.#cache, pending.length, this.#settings);
    if (this.#step > 0) {
      this.#pass ??= new DecodeStep(this.#model, this.#cache, options);
      return this.#pass.logits(last ?? tensor(BigInt64Array.from(pending, ([id = 0]) => BigInt(id))));
    }
    return promptLogits(this.#model, pending, options);
  }

  #dropPass(): void {
    this.#pass?.dispose();
    this.#pass = undefined;
  }

  dispose(): void {
    if (this.#ahead !== undefined) disposeTensors(Object.values(this.#ahead));
    this.#ahead = undefined;
    this.#dropPass();
    this.#cache.dispose();
  }
}

/** What every pass over the rows of a cache is told. */
export function passOptions(cache: KeyValueCache, rows: number, { adapters, task }: Settings): ForwardOptions {
  return {
    training: false,
    cache,
    ...(adapters && { rows: new Array<readonly string[]>(rows).fill(adapters) }),
    ...(task === undefined ? {} : { tasks: new Array<TaskId>(rows).fill(task) }),
  };
}

/** Logits [B, V] after prompts, in one pass over all of them. */
export function promptLogits(model: LanguageModel, prompts: readonly (readonly number[])[], options: ForwardOptions): Tensor {
  return model.head(wide(lastOf(model.forward(prompts, options), prompts)), options);
}

/** Hidden states [B, T, D] of the last token of each row: [B, D]. */
function lastOf(hidden: Tensor, rows: readonly (readonly number[])[]): Tensor {
  const [batch = 0, time = 0, width = 0] = hidden.shape;
  const places = BigInt64Array.from(rows, (row, b) => BigInt(b * time + row.length - 1));
  return embedding(reshape(hidden, [batch * time, width]), tensor(places));
}
