import type { TokenStream } from '../io/token-stream.js';
import type { Tokenizer } from '../io/tokenizer.js';
import type { LanguageModel } from '../model.js';
import { tokenRoom } from '../nn/virtual-tokens.js';
import { type Choice, Decoder } from './decoder.js';
import { type GenerateOptions, type Prompt, promptIds, type Settings, settingsOf } from './options.js';
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
class Continuation {
  readonly ids: number[] = [];
  readonly logProbabilities: number[] = [];
  readonly drawLogProbabilities: number[] = [];
  readonly prompt: readonly number[];
  text = '';
  finishReason: FinishReason | undefined;
  readonly #limit: number;
  readonly #settings: Settings;
  readonly #tokenizer: Tokenizer | undefined;
  readonly #stream: TokenStream | undefined;
  readonly #filter: StopFilter;

  constructor(model: LanguageModel, prompt: readonly number[], settings: Settings) {
    this.prompt = prompt;
    this.#settings = settings;
    this.#limit = Math.min(settings.maxNewTokens, tokenRoom(model.network, settings.adapters) - prompt.length);
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
    else if (this.ids.length >= this.#limit) this.finishReason = 'length';
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

/** A text on its way: iterate over it for the pieces as they come, or await the whole with `text()` or `sample()`. Runs once. */
export class Generation implements AsyncIterable<string> {
  readonly #continuation: Continuation;
  readonly #pieces: AsyncGenerator<string, void>;

  constructor(model: LanguageModel, prompt: Prompt, options: GenerateOptions) {
    const settings = settingsOf(model, options);
    this.#continuation = new Continuation(model, promptIds(model, prompt, settings.adapters), settings);
    this.#pieces = run(model, this.#continuation, settings);
  }

  [Symbol.asyncIterator](): AsyncIterator<string> {
    return this.#pieces;
  }

  /** Ids so far. */
  get ids(): readonly number[] {
    return this.#continuation.ids;
  }

  /** The whole text, when it is there. */
  async text(): Promise<string> {
    return (await this.sample()).text;
  }

  /** The whole text with its ids and their log-probabilities, when it is there. */
  async sample(): Promise<Sample> {
    for await (const _ of this.#pieces);
    return this.#continuation.sample;
  }
}

async function* run(model: LanguageModel, continuation: Continuation, settings: Settings): AsyncGenerator<string, void> {
  const decoder = new Decoder(model, [continuation.prompt], settings);
  try {
    while (continuation.finishReason === undefined) {
      const [choice] = await decoder.next();
      const piece = choice === undefined ? '' : continuation.push(choice);
      if (piece !== '') yield piece;
    }
  } finally {
    decoder.dispose();
  }
}

/**
 * Continues a prompt. The prompt is processed in one pass, then each token costs one step; the event loop stays free.
 *
 * @example
 * for await (const piece of generate(model, 'Once upon a time', { maxNewTokens: 100 })) process.stdout.write(piece);
 * const reply = await generate(model, [{ role: 'user', content: 'Hello' }], { temperature: 0.7, seed: 1 }).text();
 *
 * Throws `InvalidArgumentError` at once for an empty or too long prompt and for options out of range; iterating rejects with `CancelledError` when `signal` fires.
 */
export function generate(model: LanguageModel, prompt: Prompt, options: GenerateOptions = {}): Generation {
  return new Generation(model, prompt, options);
}

/** Like `generate`, for the whole result with ids and log-probabilities. */
export async function sample(model: LanguageModel, prompt: Prompt, options: GenerateOptions = {}): Promise<Sample> {
  return generate(model, prompt, options).sample();
}

/**
 * Continues several prompts of any lengths in one batch; row b draws with seed `seed` + b, and has exactly the result that it has alone with that seed. Rows
 * leave the batch as they end.
 */
export async function generateBatch(model: LanguageModel, prompts: readonly Prompt[], options: GenerateOptions = {}): Promise<Sample[]> {
  if (prompts.length === 0) return [];
  const settings = settingsOf(model, options);
  const rows = prompts.map((prompt) => new Continuation(model, promptIds(model, prompt, settings.adapters), settings));
  const decoder = new Decoder(
    model,
    rows.map((row) => row.prompt),
    settings,
  );
  try {
    let running = rows;
    while (running.length > 0) {
      const choices = await decoder.next();
      for (const [place, row] of running.entries()) {
        const choice = choices[place];
        if (choice !== undefined) row.push(choice);
      }
      const places = running.flatMap((row, place) => (row.finishReason === undefined ? [place] : []));
      decoder.keepRows(places);
      running = running.filter((row) => row.finishReason === undefined);
    }
  } finally {
    decoder.dispose();
  }
  return rows.map((row) => row.sample);
}
