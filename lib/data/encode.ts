import { ConfigError, FormatError } from '../errors.js';
import type { ChatMessage, Example } from './example.js';

/** What encoding needs of a tokenizer; `Tokenizer` has it. */
export interface TextTokenizer {
  /** Ids of texts; with the tokenizer's own special tokens unless `addSpecialTokens` is false. */
  encodeBatch(texts: readonly string[], options?: { addSpecialTokens?: boolean }): Promise<number[][]>;
  /** The id that ends a text, where the model has one. */
  readonly eosId: number | undefined;
  /** The text of a conversation by the model's chat template; throws where the model has none. */
  applyChatTemplate(messages: readonly ChatMessage[], options?: { addGenerationPrompt?: boolean }): string;
}

/** The tokens of one row. `learnt[t]` is 1 where token t is a target (predicted from the tokens before it); `learnt[0]` is 0. */
export interface Sequence {
  readonly ids: Int32Array;
  readonly learnt: Uint8Array;
  readonly where: string;
}

/**
 * The tokens of an example, cut to `length`: a text with the tokenizer's own special tokens and nothing after it; a prompt and completion
 * with the end token after it, the completion learnt; a conversation as its chat template writes it, assistant turns learnt.
 */
export async function encodeExample(example: Example, tokenizer: TextTokenizer, length: number): Promise<Sequence> {
  const whole = await encodeWhole(example, tokenizer);
  const ids = Int32Array.from(whole.ids.slice(0, length));
  const learnt = whole.learnt.slice(0, ids.length);
  learnt[0] = 0;
  return { ids, learnt, where: example.where };
}

interface Whole {
  readonly ids: readonly number[];
  readonly learnt: Uint8Array;
}

async function encodeWhole(example: Example, tokenizer: TextTokenizer): Promise<Whole> {
  switch (example.kind) {
    case 'text': {
      const [ids = []] = await tokenizer.encodeBatch([example.text]);
      return { ids, learnt: new Uint8Array(ids.length).fill(1) };
    }
    case 'completion': {
      const { ids, promptLength } = await encodeCompletion(tokenizer, example.prompt, example.completion);
      const end = tokenizer.eosId;
      const ended = end === undefined || ids.at(-1) === end ? ids : [...ids, end];
      return { ids: ended, learnt: new Uint8Array(ended.length).fill(1, promptLength) };
    }
    case 'chat':
      return encodeChat(example.messages, tokenizer, example.where);
    default:
      throw new ConfigError(`data: unknown kind of example; got ${JSON.stringify(example satisfies never)}`);
  }
}

/**
 * The ids of prompt and completion tokenised as one text, without an end token, and how many of them come from the prompt: those it
 * shares with the prompt tokenised alone (a token that spans the border belongs to the completion).
 */
export async function encodeCompletion(
  tokenizer: TextTokenizer,
  prompt: string,
  completion: string,
): Promise<{ ids: readonly number[]; promptLength: number }> {
  const [ids = [], alone = []] = await tokenizer.encodeBatch([prompt + completion, prompt]);
  return { ids, promptLength: sharedPrefix(alone, ids) };
}

async function encodeChat(messages: readonly ChatMessage[], tokenizer: TextTokenizer, where: string): Promise<Whole> {
  const text = tokenizer.applyChatTemplate(messages);
  // The whole conversation, then for each assistant turn the text that comes before it and the text that ends with it.
  const texts = [text];
  for (const [index, message] of messages.entries()) {
    if (message.role !== 'assistant') continue;
    const before = tokenizer.applyChatTemplate(messages.slice(0, index), { addGenerationPrompt: true });
    const after = tokenizer.applyChatTemplate(messages.slice(0, index + 1));
    if (!text.startsWith(after) || !after.startsWith(before)) {
      throw new FormatError(
        `${where}: the chat template rewrites earlier turns, so the tokens of message ${index + 1} cannot be told apart`,
      );
    }
    texts.push(before, after);
  }
  const [ids = [], ...borders] = await tokenizer.encodeBatch(texts, { addSpecialTokens: false });
  const learnt = new Uint8Array(ids.length);
  for (let turn = 0; turn < borders.length; turn += 2) {
    learnt.fill(1, sharedPrefix(borders[turn] ?? [], ids), sharedPrefix(borders[turn + 1] ?? [], ids));
  }
  return { ids, learnt };
}

function sharedPrefix(a: readonly number[], b: readonly number[]): number {
  const limit = Math.min(a.length, b.length);
  let count = 0;
  while (count < limit && a[count] === b[count]) count++;
  return count;
}
