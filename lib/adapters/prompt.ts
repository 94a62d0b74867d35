import { ConfigError } from '../errors.js';
import { peftPrompt } from '../io/peft-prompts.js';
import { Embedding } from '../nn/embedding.js';
import type { TokenNetwork } from '../nn/virtual-tokens.js';
import { tensor, uniform } from '../ops/create.js';
import { cast, floor } from '../ops/elementwise.js';
import { embedding } from '../ops/index-ops.js';
import { keep, noGrad, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { type AdapterMethod, type AdapterModule, type CommonConfig, type CreateContext, commonDefaults } from './adapter.js';
import { layersOf } from './inject.js';
import { requireCount, requireEmbeddings, requireOneOf, wrongOption } from './option-checks.js';
import { emptyTable, normalTable } from './prompt-encoder.js';
import { PromptTokens, portableTable } from './virtual-module.js';

/** Options of prompt tuning; each is optional in `attach`. */
export interface PromptConfig extends CommonConfig {
  /** T, embeddings in front of those of the tokens. Default 20. */
  virtualTokens: number;
  /** `random`: normal values; `vocabulary`: embeddings of random tokens; `text`: those of the tokens of `initText`. Default `random`. */
  init: 'random' | 'vocabulary' | 'text';
  /** The text that the prompt starts from, cut or repeated to T tokens. Default null. */
  initText: string | null;
}

export const promptDefaults: PromptConfig = { ...commonDefaults, virtualTokens: 20, init: 'random', initText: null };

function check({ virtualTokens, init, initText }: PromptConfig): void {
  requireCount('prompt', 'virtualTokens', virtualTokens);
  requireOneOf('prompt', 'init', init, ['random', 'vocabulary', 'text']);
  if (init === 'text' && (typeof initText !== 'string' || initText === ''))
    throw wrongOption('prompt', 'initText', initText, 'a text, for init "text"');
  if (init !== 'text' && initText !== null) throw wrongOption('prompt', 'initText', initText, 'null without init "text"');
}

/** The embedding that the tokens of a network come from. */
function inputEmbedding(network: TokenNetwork): Embedding {
  const found = layersOf(network).find(({ layer, role }) => role === 'embedding' && layer instanceof Embedding);
  if (found === undefined) throw new ConfigError(`prompt: ${network.constructor.name} has no embedding of tokens; expected init "random"`);
  return found.layer as Embedding;
}

/** Ids to start from, T of them. */
function startingIds(size: number, { virtualTokens, init, initText }: PromptConfig, context: CreateContext): number[] {
  if (init === 'vocabulary') {
    const { seed, stream } = context;
    return scope(() =>
      Array.from(floor(uniform([virtualTokens], { seed, stream: stream('', 'prompt'), low: 0, high: size })).dataSync(), Number),
    );
  }
  if (context.tokenizer === undefined) throw new ConfigError('prompt: init "text" needs a model with a tokenizer; got none');
  const ids = context.tokenizer.encode(initText ?? '');
  if (ids.length === 0) throw new ConfigError(`prompt: initText has no tokens; got ${JSON.stringify(initText)}`);
  return Array.from({ length: virtualTokens }, (_, i) => ids[i % ids.length] as number);
}

function table(network: TokenNetwork, config: PromptConfig, context: CreateContext): Tensor {
  const shape = [config.virtualTokens, network.shape.hiddenSize];
  if (context.loading) return emptyTable(shape, context.dtype);
  if (config.init === 'random') return normalTable(shape, 'prompt_embeddings', context);
  const { weight, size } = inputEmbedding(network);
  const ids = startingIds(size, config, context);
  const rows = scope(() => noGrad(() => keep(cast(embedding(weight, tensor(ids, { dtype: 'i64' })), context.dtype))));
  return rows.setRequiresGrad(true);
}

function whole(network: TokenNetwork, config: PromptConfig, context: CreateContext): AdapterModule {
  requireEmbeddings('prompt', network);
  return new PromptTokens(config.virtualTokens, table(network, config, context));
}

/**
 * Prompt tuning: trained embeddings in front of those of the tokens. "The Power of Scale for Parameter-Efficient Prompt Tuning".
 *
 * ```ts
 * const tuned = await attach(model, { type: 'prompt', init: 'text', initText: 'Classify the question:' });
 * ```
 */
export const prompt = {
  name: 'prompt',
  prefix: 'prompt_',
  peftType: 'PROMPT_TUNING',
  peft: peftPrompt,
  defaults: promptDefaults,
  check,
  startsAsIdentity: () => false,
  plain: (config) => ({ ...config, init: 'random', initText: null }),
  roles: [],
  whole,
  portable: (config, placements, form) => portableTable(config, placements, form),
} as const satisfies AdapterMethod<'prompt', PromptConfig>;
