import { type Encoding, Tokenizer as NativeTokenizer } from 'tokenizers';
import { didYouMean, FormatError, InvalidArgumentError, NativeError } from '../errors.js';
import { withFile } from './byte-source.js';
import { type ChatMessage, type ChatTemplateOptions, ChatTemplates } from './chat-template.js';
import { type GgufHeader, parseGguf } from './gguf/parser.js';
import { ggufTokenizer } from './gguf-tokenizer.js';
import { isJsonObject } from './json.js';
import { SyncEncoder } from './sync-encoder.js';
import { type TokenStream, tokenStream } from './token-stream.js';
import { checkTokenizerJson } from './tokenizer-check.js';
import { readTokenizerFolder, type TokenizerData } from './tokenizer-data.js';

export interface EncodeOptions {
  /** Put the special tokens of the tokenizer around the text, such as `<s>` of Llama. Default true. */
  readonly addSpecialTokens?: boolean;
}

/** What an encoder reads as one example: a text, a pair of texts, or a text that was split into words. */
export type EncoderText = string | readonly [first: string, second: string] | { readonly words: readonly string[] };

/** The tokens of a text for an encoder, the tokenizer's special tokens around them. */
export interface EncodedText {
  readonly ids: readonly number[];
  /** Part of a pair that each token belongs to, 0 or 1, as the tokenizer numbers them. */
  readonly types: readonly number[];
  /** Text that each token is from, 0 or 1; -1 for special tokens. */
  readonly sources: readonly number[];
  /** Number of the word that each token is from; -1 for special tokens. */
  readonly words: readonly number[];
}

/** The tokens of a conversation whose template marks what the assistant generates. */
export interface GeneratedIds {
  readonly ids: readonly number[];
  /** Number of the generated block that each token belongs to, counted from 1; 0 outside. */
  readonly blocks: Int32Array;
}

export interface DecodeOptions {
  /** Leave out special tokens. Default true. */
  readonly skipSpecialTokens?: boolean;
}

/**
 * Text to token ids and back, with the chat templates of the model.
 *
 * @example
 * const tokenizer = await Tokenizer.fromFolder('./smollm2');
 * const ids = tokenizer.encode('Once upon a time');
 * const text = tokenizer.decode(ids);
 * const prompt = tokenizer.applyChatTemplate([{ role: 'user', content: 'Hi' }], { addGenerationPrompt: true });
 */
export class Tokenizer {
  /** Number of tokens, added ones included; ids run from 0 to one less. A model's embedding may have more rows. */
  readonly vocabSize: number;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly padId: number | undefined;
  readonly unkId: number | undefined;
  /** The token that stands for a hidden word in masked language modelling. */
  readonly maskId: number | undefined;
  /** Ids that end a reply: `eosId` and, where the files name them, end-of-turn tokens. */
  readonly stopIds: readonly number[];
  readonly #source: string;
  readonly #native: NativeTokenizer;
  readonly #sync: SyncEncoder;
  readonly #decoder: { decode(tokens: string[]): string } | null;
  readonly #specialIds: ReadonlySet<number>;
  readonly #templates: ChatTemplates;

  private constructor(data: TokenizerData) {
    checkTokenizerJson(data.json, data.source);
    const json = JSON.stringify(data.json);
    try {
      this.#native = NativeTokenizer.fromString(json);
      this.#decoder = this.#native.getDecoder();
    } catch (cause) {
      throw new FormatError(`${data.source}: is no valid tokenizer; ${(cause as Error).message}`, { cause });
    }
    checkAddedTokens(data, this.#native);
    this.#source = data.source;
    this.#sync = new SyncEncoder(json);
    this.vocabSize = this.#native.getVocabSize(true);
    this.#specialIds = specialIdsOf(data, this.#native);
    const idOf = (token: string | undefined): number | undefined =>
      token === undefined ? undefined : (this.#native.tokenToId(token) ?? undefined);
    this.bosId = idOf(data.special.bos);
    this.eosId = idOf(data.special.eos);
    this.padId = idOf(data.special.pad);
    this.unkId = idOf(data.special.unk);
    this.maskId = idOf(data.special.mask);
    const stops = [data.special.eos, ...data.stops].map(idOf).filter((id) => id !== undefined);
    this.stopIds = [...new Set(stops)];
    this.#templates = new ChatTemplates(data.source, data.templates, data.special);
  }

  /** From a Hugging Face folder with `tokenizer.json`. Throws `FormatError`. */
  static async fromFolder(folder: string): Promise<Tokenizer> {
    return new Tokenizer(await readTokenizerFolder(folder));
  }

  /** From the metadata of a GGUF file, given by path or already parsed. Throws `FormatError`. */
  static fromGguf(file: string | GgufHeader): Tokenizer {
    return new Tokenizer(ggufTokenizer(typeof file === 'string' ? withFile(file, parseGguf) : file));
  }

  /** From data made elsewhere. Throws `FormatError`. */
  static fromData(data: TokenizerData): Tokenizer {
    return new Tokenizer(data);
  }

  /** Names of the chat templates. */
  get chatTemplates(): readonly string[] {
    return this.#templates.names;
  }

  /** Token ids of a text. */
  encode(text: string, { addSpecialTokens = true }: EncodeOptions = {}): number[] {
    if (typeof text !== 'string') throw new InvalidArgumentError(`encode: text must be a string; got ${typeof text}`);
    return text === '' && !addSpecialTokens ? [] : this.#sync.encode(text, addSpecialTokens);
  }

  /** Token ids of many texts, in parallel and without blocking the event loop. */
  async encodeBatch(texts: readonly string[], { addSpecialTokens = true }: EncodeOptions = {}): Promise<number[][]> {
    const wrong = texts.findIndex((text) => typeof text !== 'string');
    if (wrong >= 0) throw new InvalidArgumentError(`encodeBatch: text ${wrong} must be a string; got ${typeof texts[wrong]}`);
    try {
      const encodings = await this.#native.encodeBatch([...texts], { addSpecialTokens });
      return encodings.map((encoding) => encoding.getIds());
    } catch (cause) {
      throw new NativeError(`tokenizer: cannot encode; ${(cause as Error).message}`, { cause });
    }
  }

  /** Token ids of a text, a pair or a list of words, each of which is tokenised for itself, and where each token is from. */
  async encodeParts(text: EncoderText): Promise<EncodedText> {
    try {
      if (typeof text === 'object' && 'words' in text) return await this.#encodeWords(text.words);
      const [first, second] = typeof text === 'string' ? [text, null] : text;
      return partsOf(await this.#native.encode(first, second, { addSpecialTokens: true }));
    } catch (cause) {
      throw new NativeError(`tokenizer: cannot encode; ${(cause as Error).message}`, { cause });
    }
  }

  async #encodeWords(words: readonly string[]): Promise<EncodedText> {
    // Any word shows which special tokens come before and after.
    const frame = partsOf(await this.#native.encode('a', null, { addSpecialTokens: true }));
    const inside = frame.sources.flatMap((source, place) => (source < 0 ? [] : [place]));
    const [first = 0, last = first] = [inside[0], inside.at(-1)];
    const encodings = await this.#native.encodeBatch([...words], { addSpecialTokens: false });
    const tokens = encodings.flatMap((encoding, word) => encoding.getIds().map((id) => ({ id, word })));
    const framed = <T>(values: readonly number[], own: readonly T[]): (number | T)[] => [
      ...values.slice(0, first),
      ...own,
      ...values.slice(last + 1),
    ];
    return {
      ids: framed(
        frame.ids,
        tokens.map(({ id }) => id),
      ),
      types: framed(
        frame.types,
        tokens.map(() => frame.types[first] ?? 0),
      ),
      sources: framed(
        frame.sources,
        tokens.map(() => 0),
      ),
      words: framed(
        frame.words,
        tokens.map(({ word }) => word),
      ),
    };
  }

  /** Text of token ids. Throws `InvalidArgumentError` for an id that is no token. */
  decode(ids: Iterable<number>, { skipSpecialTokens = true }: DecodeOptions = {}): string {
    const tokens: string[] = [];
    for (const id of ids) {
      const token = this.idToToken(id);
      if (!skipSpecialTokens || !this.#specialIds.has(id)) tokens.push(token);
    }
    if (tokens.length === 0) return '';
    if (this.#decoder === null) return tokens.join(' ');
    try {
      return this.#decoder.decode(tokens);
    } catch (cause) {
      throw new NativeError(`tokenizer: cannot decode; ${(cause as Error).message}`, { cause });
    }
  }

  /** Turns ids into text as they come, never showing a part of a character. Ids must be tokens, as for `decode`. */
  createStream(options: DecodeOptions = {}): TokenStream {
    return tokenStream((ids) => this.decode(ids, options));
  }

  /** Whether this id is a token: models often have rows for more ids than their tokenizer. */
  hasToken(id: number): boolean {
    return Number.isInteger(id) && id >= 0 && id < 2 ** 32 && this.#native.idToToken(id) !== null;
  }

  /** Id of a token, written as in the vocabulary. Throws `InvalidArgumentError` when there is none. */
  tokenToId(token: string): number {
    const id = typeof token === 'string' ? this.#native.tokenToId(token) : null;
    if (id !== null) return id;
    const special = [...this.#specialIds].map((known) => this.idToToken(known));
    throw new InvalidArgumentError(`tokenToId: ${this.#source} has no token "${token}"${didYouMean(String(token), special)}`);
  }

  /** The token with this id, written as in the vocabulary. Throws `InvalidArgumentError` when there is none. */
  idToToken(id: number): string {
    const token = Number.isInteger(id) && id >= 0 && id < 2 ** 32 ? this.#native.idToToken(id) : null;
    if (token === null) throw new InvalidArgumentError(`idToToken: no token has this id; got ${id}, expected 0 to ${this.vocabSize - 1}`);
    return token;
  }

  /** Whether `skipSpecialTokens` leaves this id out. */
  isSpecial(id: number): boolean {
    return this.#specialIds.has(id);
  }

  /**
   * The text of a conversation as the model was trained on it. It holds its special tokens, so encode it with `addSpecialTokens: false`, or use `encodeChat`.
   * Throws `ConfigError` when the model has no such template, `InvalidArgumentError` when the template refuses the messages.
   */
  applyChatTemplate(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): string {
    return this.#templates.render(messages, options);
  }

  /**
   * Token ids of a conversation, and which of them its template marks as generated by the assistant: `blocks[t]` is the number of the `{% generation %}` block
   * (from 1) that token t has a character in, 0 outside. Undefined where the template has no such blocks.
   */
  async encodeGenerated(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): Promise<GeneratedIds | undefined> {
    const { text, generated } = this.#templates.renderMarked(messages, options);
    if (generated === undefined) return undefined;
    const [encoding] = await this.#native.encodeBatch([text], { addSpecialTokens: false });
    if (encoding === undefined) throw new NativeError('tokenizer: cannot encode; got no result');
    return { ids: encoding.getIds(), blocks: blocksOf(encoding.getOffsets(), generated) };
  }

  /** Token ids of a conversation. */
  encodeChat(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): number[] {
    return this.encode(this.applyChatTemplate(messages, options), { addSpecialTokens: false });
  }
}

/** Refuses added tokens of which normalizing leaves nothing: the library would find them between all bytes of a text, and end the process. */
function checkAddedTokens({ json, source }: TokenizerData, native: NativeTokenizer): void {
  const normalizer = native.getNormalizer();
  const added: readonly unknown[] = Array.isArray(json.added_tokens) ? json.added_tokens : [];
  for (const token of added) {
    if (
      normalizer === null ||
      !isJsonObject(token) ||
      token.normalized !== true ||
      typeof token.content !== 'string' ||
      token.content === ''
    )
      continue;
    if (normalizer.normalizeString(token.content) === '')
      throw new FormatError(
        `${source}: is no valid tokenizer; nothing is left of the added token "${token.content}" when it is normalized`,
      );
  }
}

/** An encoding of the library with -1 in place of nothing. */
function partsOf(encoding: Encoding): EncodedText {
  const places = (values: readonly (number | null | undefined)[]): number[] => values.map((value) => value ?? -1);
  return {
    ids: encoding.getIds(),
    types: encoding.getTypeIds(),
    sources: places(encoding.getSequenceIds()),
    words: places(encoding.getWordIds()),
  };
}

/** The number of the span (from 1) that each token has a character in; spans and tokens are both in order. */
function blocksOf(offsets: readonly (readonly number[])[], spans: readonly (readonly [number, number])[]): Int32Array {
  const blocks = new Int32Array(offsets.length);
  let span = 0;
  for (const [t, [start = 0, end = 0]] of offsets.entries()) {
    while (span < spans.length && start >= (spans[span]?.[1] ?? 0)) span++;
    if (span === spans.length) break;
    if (end > (spans[span]?.[0] ?? 0)) blocks[t] = span + 1;
  }
  return blocks;
}

function specialIdsOf({ json }: TokenizerData, native: NativeTokenizer): Set<number> {
  const added: readonly unknown[] = Array.isArray(json.added_tokens) ? json.added_tokens : [];
  const ids = added.map((token) => (isJsonObject(token) && token.special === true ? native.tokenToId(String(token.content)) : null));
  return new Set(ids.filter((id) => id !== null));
}
