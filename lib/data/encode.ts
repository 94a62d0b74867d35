import { ConfigError, FormatError, LorikeetError } from '../errors.js';
import type { GeneratedIds } from '../io/tokenizer.js';
import type { TaskId } from '../nn/context.js';
import type { ChatMessage, Example } from './example.js';

/** What encoding needs of a tokenizer; `Tokenizer` has it. */
export interface TextTokenizer {
  /** Ids of texts; with the tokenizer's own special tokens unless `addSpecialTokens` is false. */
  encodeBatch(texts: readonly string[], options?: { addSpecialTokens?: boolean }): Promise<number[][]>;
  /** The id that ends a text, where the model has one. */
  readonly eosId: number | undefined;
  /** The text of a conversation by the model's chat template; throws where the model has none. */
  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatOptions): string;
  /** Ids of a conversation and what its template marks as generated; undefined where the template has no `{% generation %}` blocks. */
  encodeGenerated?(messages: readonly ChatMessage[], options?: ChatOptions): Promise<GeneratedIds | undefined>;
}

interface ChatOptions {
  readonly addGenerationPrompt?: boolean;
  readonly tools?: readonly unknown[];
}

/** The tokens of one row. `learnt[t]` is 1 where token t is a target (predicted from the tokens before it); `learnt[0]` is 0. */
export interface Sequence {
  readonly ids: Int32Array;
  readonly learnt: Uint8Array;
  readonly where: string;
  /** Of a packed sequence: where each of its documents begins. Absent: it is one document. */
  readonly starts?: readonly number[];
  /** The task of the row, where its source says. */
  readonly task?: TaskId;
}

/**
 * The tokens of an example, cut to `length`: a text with the tokenizer's own special tokens and nothing after it; a prompt and completion
 * with the end token after it, the completion learnt; a conversation as its chat template writes it, of which the tokens in `{% generation %}` blocks are learnt,
 * or the assistant turns where the template has no such blocks.
 *
 * Throws `FormatError` naming the row where the template refuses it.
 */
export async function encodeExample(example: Example, tokenizer: TextTokenizer, length: number): Promise<Sequence> {
  const whole = await encodeWhole(example, tokenizer);
  const ids = Int32Array.from(whole.ids.slice(0, length));
  const learnt = whole.learnt.slice(0, ids.length);
  learnt[0] = 0;
  return { ids, learnt, where: example.where, ...(example.task === undefined ? {} : { task: example.task }) };
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
      return explainedChat(example, tokenizer);
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

type Chat = Extract<Example, { kind: 'chat' }>;

/** Errors of the template become those of the row; a model without a template stays an error of its own. */
async function explainedChat(chat: Chat, tokenizer: TextTokenizer): Promise<Whole> {
  try {
    return await encodeChat(chat, tokenizer);
  } catch (error) {
    if (error instanceof FormatError || !(error instanceof LorikeetError)) throw error;
    if (error instanceof ConfigError && error.cause === undefined) throw error;
    throw new FormatError(`${chat.where}: ${error.message}`, { cause: error });
  }
}

async function encodeChat(chat: Chat, tokenizer: TextTokenizer): Promise<Whole> {
  const { messages, learn = 'all' } = chat;
  const options = chat.tools === undefined ? {} : { tools: chat.tools };
  const marked = await tokenizer.encodeGenerated?.(messages, options);
  if (marked !== undefined) {
    const last = marked.blocks.reduce((most, block) => Math.max(most, block), 0);
    const learnt = Uint8Array.from(marked.blocks, (block) => (block > 0 && (learn === 'all' || block === last) ? 1 : 0));
    return { ids: marked.ids, learnt };
  }
  const assistant = [...messages.keys()].filter((index) => messages[index]?.role === 'assistant');
  const text = tokenizer.applyChatTemplate(messages, options);
  // The whole conversation, then for each turn to learn the text that comes before it and the text that ends with it.
  const texts = [text];
  for (const index of learn === 'all' ? assistant : assistant.slice(-1)) {
    const before = tokenizer.applyChatTemplate(messages.slice(0, index), { ...options, addGenerationPrompt: true });
    const after = tokenizer.applyChatTemplate(messages.slice(0, index + 1), options);
    if (!text.startsWith(after) || !after.startsWith(before)) {
      throw new FormatError(
        `${chat.where}: the chat template rewrites earlier turns, so the tokens of message ${index + 1} cannot be told apart; ` +
          'use `learn: last`, or a chat template with {% generation %} blocks',
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
