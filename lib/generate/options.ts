import { InvalidArgumentError } from '../errors.js';
import type { ChatMessage } from '../io/chat-template.js';
import type { LanguageModel } from '../model.js';
import type { TaskId } from '../nn/context.js';
import { tokenRoom } from '../nn/virtual-tokens.js';
import type { Tensor } from '../tensor.js';

/** Changes logits [B, V] (f32) before a token is chosen; `ids` are all tokens of each row so far. Runs without gradient. */
export type LogitsProcessor = (logits: Tensor, ids: readonly (readonly number[])[]) => Tensor;

/** Text, a conversation (written out with the model's chat template), or token ids. */
export type Prompt = string | readonly ChatMessage[] | readonly number[];

export interface GenerateOptions {
  /** Default 256; fewer where the context ends before. */
  readonly maxNewTokens?: number;
  /** 0 (default) always takes the most likely token; larger is more varied. */
  readonly temperature?: number;
  /** Choose among the k most likely tokens; 0 (default) among all. */
  readonly topK?: number;
  /** Choose among the most likely tokens that together have this probability; default 1. */
  readonly topP?: number;
  /** Divides (positive) or multiplies (negative) the logits of tokens that are in the row already; default 1. */
  readonly repetitionPenalty?: number;
  /**
   * Keep so many continuations and go on with the likeliest of all their next tokens; 1 (default) is the likeliest token alone. The result comes as a whole, and takes
   * neither `temperature` nor `stop`. `repetitionPenalty` and `processors` then change log-probabilities in place of logits.
   */
  readonly beams?: number;
  /** With `beams`: a continuation scores the sum of its log-probabilities divided by its number of tokens to this power, so that more is for longer ones. Default 1. */
  readonly lengthPenalty?: number;
  /**
   * With `beams`: when a search is over. False (default): when the best running continuation would score no better if it ended now. True: as soon as so many
   * have ended. `'never'`: when none could score better at any length.
   */
  readonly earlyStopping?: boolean | 'never';
  /** Texts that end the generation; they are not part of the result. */
  readonly stop?: readonly string[];
  /** Ids that end the generation; default: the model's own. */
  readonly endTokens?: readonly number[];
  /** Seed of the draws; default 0. In a batch each row draws as if it were alone. */
  readonly seed?: number;
  readonly processors?: readonly LogitsProcessor[];
  /** Names of the adapters to use; default: the active ones. */
  readonly adapters?: readonly string[];
  /** The task of the prompts, for adapters that are routed by task. */
  readonly task?: TaskId;
  readonly signal?: AbortSignal;
}

/** Options that stay undefined where they are not given. */
type Absent = 'signal' | 'adapters' | 'task';

export type Settings = Required<Omit<GenerateOptions, Absent>> & Pick<GenerateOptions, Absent>;

/** The options with defaults filled in. Throws `InvalidArgumentError` for a value out of range. */
export function settingsOf(model: LanguageModel, options: GenerateOptions): Settings {
  const settings: Settings = {
    maxNewTokens: 256,
    temperature: 0,
    topK: 0,
    topP: 1,
    repetitionPenalty: 1,
    beams: 1,
    lengthPenalty: 1,
    earlyStopping: false,
    stop: [],
    endTokens: model.endTokens,
    seed: 0,
    processors: [],
    ...(Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as GenerateOptions),
  };
  const { maxNewTokens, temperature, topK, topP, repetitionPenalty, stop } = settings;
  check(Number.isInteger(maxNewTokens) && maxNewTokens > 0, 'maxNewTokens', maxNewTokens, 'a positive integer');
  check(Number.isFinite(temperature) && temperature >= 0, 'temperature', temperature, 'a number of at least 0');
  check(Number.isInteger(topK) && topK >= 0, 'topK', topK, 'an integer of at least 0');
  check(topP > 0 && topP <= 1, 'topP', topP, 'a number above 0 and at most 1');
  check(Number.isFinite(repetitionPenalty) && repetitionPenalty > 0, 'repetitionPenalty', repetitionPenalty, 'a positive number');
  check(
    stop.every((text) => text !== ''),
    'stop',
    stop,
    'texts that are not empty',
  );
  checkBeams(settings, options, model.network.shape.vocabularySize);
  return settings;
}

function checkBeams(
  { beams, lengthPenalty, earlyStopping, temperature, stop }: Settings,
  given: GenerateOptions,
  vocabulary: number,
): void {
  check(
    Number.isInteger(beams) && beams > 0 && beams <= vocabulary,
    'beams',
    beams,
    `an integer from 1 to the ${vocabulary} tokens of the model`,
  );
  check(Number.isFinite(lengthPenalty), 'lengthPenalty', lengthPenalty, 'a number');
  check(typeof earlyStopping === 'boolean' || earlyStopping === 'never', 'earlyStopping', earlyStopping, 'true, false or "never"');
  if (beams === 1) {
    const unused = (['lengthPenalty', 'earlyStopping'] as const).find((name) => given[name] !== undefined);
    if (unused === undefined) return;
    throw new InvalidArgumentError(`generate: ${unused} is of beam search; got it with beams 1, expected more beams`);
  }
  const beside = (name: string, got: unknown, expected: string): never => {
    throw new InvalidArgumentError(
      `generate: beam search takes no ${name}; got ${JSON.stringify(got)} with beams ${beams}, expected ${expected}`,
    );
  };
  if (temperature > 0) beside('temperature', temperature, '0: it does not draw');
  if (stop.length > 0) beside('stop', stop, 'endTokens, which end a continuation');
}

function check(ok: boolean, name: string, got: unknown, expected: string): void {
  if (!ok) throw new InvalidArgumentError(`generate: ${name} is out of range; got ${JSON.stringify(got)}, expected ${expected}`);
}

/** The token ids of a prompt. Throws for an empty one and for one that fills the context. */
export function promptIds(model: LanguageModel, prompt: Prompt, adapters?: readonly string[]): readonly number[] {
  const ids = encoded(model, prompt);
  if (ids.length === 0) throw new InvalidArgumentError('generate: the prompt has no tokens; expected at least one');
  const room = tokenRoom(model.network, adapters);
  if (ids.length >= room) {
    throw new InvalidArgumentError(
      `generate: the prompt leaves no room in the context; got ${ids.length} tokens, expected fewer than ${room}`,
    );
  }
  return ids;
}

function encoded(model: LanguageModel, prompt: Prompt): readonly number[] {
  if (typeof prompt === 'string') return model.tokenizer.encode(prompt);
  if (prompt.every((item) => typeof item === 'number')) return prompt as readonly number[];
  return model.tokenizer.encodeChat(prompt as readonly ChatMessage[], { addGenerationPrompt: true });
}
