import { InvalidArgumentError } from '../errors.js';
import type { LanguageModel } from '../model.js';
import { searchBeams } from './beam-search.js';
import { Continuation, type Sample } from './continuation.js';
import { type Choice, Decoder } from './decoder.js';
import { type GenerateOptions, type Prompt, promptIds, type Settings, settingsOf } from './options.js';

/**
 * A text on its way: iterate over it for the pieces as they come, or await the whole with `text()` or `sample()`. Runs once. One of beam search comes as a whole alone:
 * a loop over it is an `InvalidArgumentError`.
 */
export class Generation implements AsyncIterable<string> {
  readonly #continuation: Continuation;
  readonly #pieces: AsyncGenerator<string, void>;
  readonly #beams: number;

  constructor(model: LanguageModel, prompt: Prompt, options: GenerateOptions) {
    const settings = settingsOf(model, options);
    this.#continuation = new Continuation(model, promptIds(model, prompt, settings.adapters), settings);
    this.#beams = settings.beams;
    this.#pieces = run(model, this.#continuation, settings);
  }

  [Symbol.asyncIterator](): AsyncIterator<string> {
    if (this.#beams > 1)
      throw new InvalidArgumentError(
        `generate: beam search has nothing to show before its end; got a loop over pieces with beams ${this.#beams}, expected text() or sample()`,
      );
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
  if (settings.beams > 1) {
    const [found] = await searchBeams(model, [continuation], settings);
    sampleOf(continuation, found?.[0]?.choices ?? []);
    return;
  }
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
  if (settings.beams > 1) {
    const found = await searchBeams(model, rows, settings);
    return rows.map((row, place) => sampleOf(row, found[place]?.[0]?.choices ?? []));
  }
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

/** A continuation that beam search found. */
export interface BeamSample extends Sample {
  /** The sum of its log-probabilities divided by its number of tokens to the power of `lengthPenalty`. */
  readonly score: number;
}

/**
 * The `beams` (default 4) best continuations of each prompt, best first, by beam search with the semantics of transformers. Prompts of any lengths are searched in one
 * batch, and have the results that each has alone.
 *
 * @example
 * const [[best, second]] = await beamSearch(model, ['Once upon a time'], { beams: 4, lengthPenalty: 1, maxNewTokens: 50 });
 *
 * Throws as `generate` does.
 */
export async function beamSearch(model: LanguageModel, prompts: readonly Prompt[], options: GenerateOptions = {}): Promise<BeamSample[][]> {
  if (prompts.length === 0) return [];
  const settings = settingsOf(model, { beams: 4, ...options });
  const continuation = (prompt: readonly number[]) => new Continuation(model, prompt, settings);
  const rows = prompts.map((prompt) => continuation(promptIds(model, prompt, settings.adapters)));
  const found = await searchBeams(model, rows, settings);
  return found.map((beams, place) =>
    beams.map(({ choices, score }) => ({ ...sampleOf(continuation(rows[place]?.prompt ?? []), choices), score })),
  );
}

/** What became of a continuation whose tokens are known. */
function sampleOf(continuation: Continuation, choices: readonly Choice[]): Sample {
  for (const choice of choices) continuation.push(choice);
  return continuation.sample;
}
