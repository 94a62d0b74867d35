import { peftPTuning } from '../io/peft-prompts.js';
import type { TokenNetwork } from '../nn/virtual-tokens.js';
import { relu } from '../ops/elementwise.js';
import type { Tensor } from '../tensor.js';
import { type AdapterMethod, type AdapterModule, type CommonConfig, type CreateContext, commonDefaults } from './adapter.js';
import { requireCount, requireEmbeddings, requireOneOf, wrongOption } from './option-checks.js';
import { emptyTable, LstmEncoder, MlpEncoder, type PromptEncoder } from './prompt-encoder.js';
import { PromptTokens, portableTable } from './virtual-module.js';

/** Options of P-tuning; each is optional in `attach`. */
export interface PTuningConfig extends CommonConfig {
  /** T, embeddings in front of those of the tokens. Default 20. */
  virtualTokens: number;
  /** What makes them from a smaller table: three linear layers with ReLU, or a bidirectional LSTM and two linear layers. Default `mlp`. */
  encoder: 'mlp' | 'lstm';
  /** Width inside the encoder; `null`: the model's hidden size. Default null. */
  encoderSize: number | null;
  /** Layers of the LSTM. Default 2. */
  encoderLayers: number;
  /** Probability of dropping an element between layers of the LSTM in training. Default 0. */
  encoderDropout: number;
}

export const pTuningDefaults: PTuningConfig = {
  ...commonDefaults,
  virtualTokens: 20,
  encoder: 'mlp',
  encoderSize: null,
  encoderLayers: 2,
  encoderDropout: 0,
};

function check({ virtualTokens, encoder, encoderSize, encoderLayers, encoderDropout }: PTuningConfig): void {
  requireCount('p-tuning', 'virtualTokens', virtualTokens);
  requireOneOf('p-tuning', 'encoder', encoder, ['mlp', 'lstm']);
  if (encoderSize !== null) requireCount('p-tuning', 'encoderSize', encoderSize);
  requireCount('p-tuning', 'encoderLayers', encoderLayers);
  if (typeof encoderDropout !== 'number' || !(encoderDropout >= 0 && encoderDropout < 1))
    throw wrongOption('p-tuning', 'encoderDropout', encoderDropout, 'at least 0 and below 1');
}

function table({ hiddenSize: width }: TokenNetwork['shape'], config: PTuningConfig, context: CreateContext): Tensor | PromptEncoder {
  const { virtualTokens: tokens, encoder, encoderLayers: layers, encoderDropout: dropout } = config;
  if (context.loading) return emptyTable([tokens, width], context.dtype);
  const size = config.encoderSize ?? width;
  if (encoder === 'lstm') return new LstmEncoder({ tokens, width, size, layers, dropout }, context);
  return new MlpEncoder(tokens, [width, size, size, width], relu, context);
}

function whole(network: TokenNetwork, config: PTuningConfig, context: CreateContext): AdapterModule {
  requireEmbeddings('p-tuning', network);
  return new PromptTokens(config.virtualTokens, table(network.shape, config, context));
}

/**
 * P-tuning: embeddings in front of those of the tokens, made by an encoder that is trained with them and saved as what it makes. "GPT Understands, Too".
 *
 * ```ts
 * const tuned = await attach(model, { type: 'p-tuning', encoder: 'lstm' });
 * ```
 */
export const pTuning = {
  name: 'p-tuning',
  prefix: 'prompt_',
  peftType: 'P_TUNING',
  peft: peftPTuning,
  defaults: pTuningDefaults,
  check,
  startsAsIdentity: () => false,
  roles: [],
  whole,
  portable: (config, placements, form) => portableTable(config, placements, form),
} as const satisfies AdapterMethod<'p-tuning', PTuningConfig>;
