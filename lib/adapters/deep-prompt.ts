import { ConfigError } from '../errors.js';
import { ownFormat } from '../io/own-format.js';
import { EncoderNetwork } from '../models/encoder.js';
import type { InnerPrompts, PromptReading } from '../nn/inner-prompts.js';
import type { TokenNetwork, VirtualTokens } from '../nn/virtual-tokens.js';
import { dropout } from '../ops/dropout.js';
import { expand, narrow } from '../ops/shape.js';
import { RandomSource } from '../random.js';
import type { Tensor } from '../tensor.js';
import {
  type AdapterMethod,
  AdapterModule,
  type CommonConfig,
  type CreateContext,
  commonDefaults,
  type Placement,
  type Target,
} from './adapter.js';
import { requireCount, requireDropout, requireOneOf } from './option-checks.js';
import { uniformTable } from './prompt-encoder.js';
import { finalNorms } from './stream-norms.js';
import { isSavedWhole } from './targets.js';
import { TrainedCopy } from './trained-copy.js';

/** Options of prompts inside an encoder; each is optional in `attach`. */
export interface DeepPromptConfig extends CommonConfig {
  /** P. Default 25. */
  virtualTokens: number;
  /** Whether every layer has prompts of its own in the places of those before, or the first one alone has some. Default true. */
  deep: boolean;
  /** Probability of dropping an element of the prompts in training. Default 0. */
  dropout: number;
  /** Which tokens a head of images or audio reads, where its pooling takes several. Default all. */
  reading: PromptReading;
  /** Also train the norm behind the last block. Default true. */
  norms: boolean;
}

export const deepPromptDefaults: DeepPromptConfig = {
  ...commonDefaults,
  virtualTokens: 25,
  deep: true,
  dropout: 0,
  reading: 'all',
  norms: true,
};

const kName = 'deep-prompt';
const readings: readonly PromptReading[] = ['all', 'special', 'prompts', 'patches', 'prompts+patches'];

function check({ virtualTokens, deep, dropout: p, reading, norms }: DeepPromptConfig): void {
  requireCount(kName, 'virtualTokens', virtualTokens);
  requireOneOf(kName, 'deep', deep, [true, false]);
  requireDropout(kName, p);
  requireOneOf(kName, 'reading', reading, readings);
  requireOneOf(kName, 'norms', norms, [true, false]);
}

/** Prompts [1, P, D] of the first layer and [L - 1, P, D] of the others. */
class DeepPrompts extends AdapterModule implements VirtualTokens, InnerPrompts {
  readonly count: number;
  readonly reading: PromptReading;
  readonly prompt_embeddings: Tensor;
  readonly deep_prompt_embeddings?: Tensor;
  override readonly random: RandomSource;
  readonly #dropout: number;

  constructor(first: Tensor, others: Tensor | undefined, { reading, dropout: p }: DeepPromptConfig, seed: number) {
    super();
    this.count = first.shape[1] as number;
    this.reading = reading;
    this.prompt_embeddings = first;
    if (others !== undefined) this.deep_prompt_embeddings = others;
    this.random = new RandomSource(seed, kName);
    this.#dropout = p;
  }

  get prompts(): InnerPrompts {
    return this;
  }

  override virtual(): VirtualTokens {
    return this;
  }

  at(number: number, batch: number, training: boolean): Tensor | undefined {
    const others = this.deep_prompt_embeddings;
    const own = number === 0 ? this.prompt_embeddings : others && narrow(others, 0, number - 1, 1);
    if (own === undefined) return undefined;
    const each = expand(own, [batch, ...own.shape.slice(1)]);
    return training && this.#dropout > 0 ? dropout(each, this.#dropout, this.random.next()) : each;
  }
}

function whole(network: TokenNetwork, config: DeepPromptConfig, context: CreateContext): AdapterModule {
  const { virtualTokens: count, deep, reading } = config;
  if (!(network instanceof EncoderNetwork))
    throw new ConfigError(
      `${kName}: puts prompts inside an encoder; got ${network.constructor.name}, expected type "prompt" for a language model`,
    );
  const { hiddenSize, layers, contextLength } = network.shape;
  if (count >= contextLength)
    throw new ConfigError(
      `${kName}: virtualTokens must be fewer than the tokens of the model; got ${count}, expected below ${contextLength}`,
    );
  if (reading !== 'all' && network.shape.tokens?.unpooled === true)
    throw new ConfigError(
      `${kName}: the head pools over patches and prompts alone; got reading "${reading}", expected "all", or pooling that names "cls"`,
    );
  const table = (name: string, rows: number): Tensor => uniformTable([rows, count, hiddenSize], hiddenSize, name, context);
  const others = deep && layers > 1 ? table('deep_prompt_embeddings', layers - 1) : undefined;
  return new DeepPrompts(table('prompt_embeddings', 1), others, config, context.seed);
}

/** The norms behind the last block. */
const extras = (layers: readonly Target[], config: DeepPromptConfig, { network, dtype }: CreateContext): Placement[] =>
  (config.norms ? finalNorms(layers, network) : [])
    .filter(({ path }) => !isSavedWhole(config, path))
    .map(({ path, layer }) => ({ path, module: new TrainedCopy(layer, dtype) }));

/**
 * Prompts inside an encoder: trained embeddings behind the class token, in the place of a distillation token that the head does not read, new ones in every layer or
 * in the first one alone.
 * "Visual Prompt Tuning"; "Parameter-Efficient Transfer Learning of Audio Spectrogram Transformers".
 *
 * ```ts
 * const tuned = await attach(encoder, { type: 'deep-prompt', virtualTokens: 25 });
 * ```
 */
export const deepPrompt = {
  name: kName,
  prefix: '',
  peftType: 'DEEP_PROMPT',
  peft: ownFormat(deepPromptDefaults),
  defaults: deepPromptDefaults,
  check,
  startsAsIdentity: () => false,
  networks: 'encoders',
  roles: [],
  whole,
  extras: (layers, _targets, config, context) => extras(layers, config, context),
} as const satisfies AdapterMethod<'deep-prompt', DeepPromptConfig>;
