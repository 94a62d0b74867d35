import type { TokenStream } from '../io/token-stream.js';
import type { Tokenizer } from '../io/tokenizer.js';
import type { LanguageModel } from '../model.js';
import { tokenRoom } from '../nn/virtual-tokens.js';
import type { Choice } from './decoder.js';
import type { Settings } from './options.js';
import { StopFilter } from './stop-filter.js';

/** `end`: a token of the model that ends texts; `stop`: one of the stop texts; `length`: `maxNewTokens` or the end of the context. */
export type FinishReason = 'end' | 'stop' | 'length';

/** One generated continuation. */
export interface Sample {
  /** The new token ids, an end token included. */
  readonly ids: readonly number[];
  /** Natural logarithm of the probability of each of `ids` for the model, after processors and repetition penalty, before temperature and truncation. */
  readonly logProbabilities: readonly number[];
  /** The same after temperature and truncation: what each was drawn with; 0 at temperature 0. */
  readonly drawLogProbabilities: readonly number[];
  /** The text of the ids, without special tokens and cut before a stop text, so that prompt and text joined are the whole; empty for a model without tokenizer. */
  readonly text: string;
  readonly finishReason: FinishReason;
  readonly promptTokens: number;
}

/** More tokens than one character or word boundary ever spans. */
const promptTail = 16;

/** One row of a batch while it is generated: its tokens, its text, and why it ended. */
export class Continuation {
  readonly ids: number[] = [];
  readonly logProbabilities: number[] = [];
  readonly drawLogProbabilities: number[] = [];
  readonly prompt: readonly number[];
  text = '';
  finishReason: FinishReason | undefined;
  /** New tokens at most. */
  readonly limit: number;
  readonly #settings: Settings;
  readonly #tokenizer: Tokenizer | undefined;
  readonly #stream: TokenStream | undefined;
  readonly #filter: StopFilter;

  constructor(model: LanguageModel, prompt: readonly number[], settings: Settings) {
    this.prompt = prompt;
    this.#settings = settings;
    this.limit = Math.min(settings.maxNewTokens, tokenRoom(model.network, settings.adapters) - prompt.length);
    this.#filter = new StopFilter(settings.stop);
    this.#tokenizer = model.hasTokenizer || settings.stop.length > 0 ? model.tokenizer : undefined;
    this.#stream = this.#tokenizer?.createStream();
    // The text of a token depends on those before it (a space, the rest of a character), so the stream has seen the end of the prompt.
    for (const id of prompt.slice(-promptTail)) this.#textOf(id);
  }

  /** The text that an id completes; an id that the model has and the tokenizer has not is no text. */
  #textOf(id: number): string {
    return this.#tokenizer?.hasToken(id) === true ? (this.#stream?.push(id) ?? '') : '';
  }

  /** Takes the next token; returns the text that can be shown by now. */
  push({ id, logProbability, drawLogProbability }: Choice): string {
    this.ids.push(id);
    this.logProbabilities.push(logProbability);
    this.drawLogProbabilities.push(drawLogProbability);
    const ended = this.#settings.endTokens.includes(id);
    let piece = ended ? '' : this.#filter.push(this.#textOf(id));
    if (this.#filter.stopped) this.finishReason = 'stop';
    else if (ended) this.finishReason = 'end';
    else if (this.ids.length >= this.limit) this.finishReason = 'length';
    if (this.finishReason === 'end' || this.finishReason === 'length') {
      piece += this.#filter.push(this.#stream?.end() ?? '') + this.#filter.end();
      if (this.#filter.stopped) this.finishReason = 'stop';
    }
    this.text += piece;
    return piece;
  }

  get sample(): Sample {
    const { ids, logProbabilities, drawLogProbabilities, text, prompt } = this;
    return { ids, logProbabilities, drawLogProbabilities, text, finishReason: this.finishReason ?? 'length', promptTokens: prompt.length };
  }
}
