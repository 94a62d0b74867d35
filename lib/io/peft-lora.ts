import type { PeftFormat } from '../adapters/adapter.js';
import type { LoraConfig, LoraInit } from '../adapters/lora-config.js';
import type { Pattern } from '../adapters/patterns.js';
import { ConfigError } from '../errors.js';
import type { AnyInit } from '../inits/init.js';
import { inits, plainInit, resolveInit } from '../inits/registry.js';
import { isJsonObject, type JsonObject } from './json.js';
import { isNeutral, readValue } from './peft-values.js';

/** Keys of a LoRA file with the values that PEFT writes when nothing was asked for. */
const keys = {
  alora_invocation_tokens: null,
  alpha_pattern: {},
  arrow_config: null,
  bias: 'none',
  corda_config: null,
  ensure_weight_tying: false,
  eva_config: null,
  fan_in_fan_out: false,
  init_lora_weights: true,
  kasa_config: null,
  layer_replication: null,
  loftq_config: {},
  lora_alpha: 8,
  lora_bias: false,
  lora_dropout: 0,
  lora_ga_config: null,
  megatron_config: null,
  megatron_core: 'megatron.core',
  monteclora_config: null,
  qalora_group_size: 16,
  r: 8,
  rank_pattern: {},
  target_parameters: null,
  trainable_token_indices: null,
  use_bdlora: null,
  use_dora: false,
  use_qalora: false,
  use_rslora: false,
  velora_config: null,
} as const;

/** Keys that change what the adapter computes, and what they are. */
const unsupported: Readonly<Record<string, string>> = {
  alora_invocation_tokens: 'activated LoRA',
  arrow_config: 'Arrow routing',
  ensure_weight_tying: 'adapters tied between layers',
  kasa_config: 'KaSA',
  layer_replication: 'replicated layers',
  megatron_config: 'MegatronLM layers',
  monteclora_config: 'MonteCLoRA',
  target_parameters: 'adapters on bare parameters',
  use_bdlora: 'block-diagonal LoRA',
  use_qalora: 'QA-LoRA',
  velora_config: 'VeLoRA',
};

/** Initialisations without an entry of their own that leave the base as it was: a finished adapter is a plain delta. */
const plainInits = new Set<unknown>([true, false, 'gaussian', 'orthogonal', 'mica']);

const methods: readonly AnyInit[] = Object.values(inits);

function readInit(file: JsonObject): LoraInit {
  const init = file.init_lora_weights ?? true;
  for (const { name, peft } of methods) {
    const options = typeof init === 'string' ? peft?.read(init, file) : undefined;
    if (options !== undefined) return { type: name, ...options } as LoraInit;
  }
  if (plainInits.has(init)) return plainInit(init);
  throw new ConfigError(
    `adapter_config.json: unknown "init_lora_weights"; got ${JSON.stringify(init)}; where it changes base weights, convert the adapter to plain LoRA in PEFT ` +
      '(save_pretrained with path_initial_model_for_weight_conversion)',
  );
}

/** `init_lora_weights` and the configs beside it; those of other initialisations are neutral. An initialisation that PEFT lacks is written as the plain one. */
function writeInit(init: LoraInit): Record<string, unknown> {
  const resolved = resolveInit(init);
  const companions = methods.flatMap(({ peft, defaults }) => Object.keys(peft?.write(defaults) ?? {}));
  return {
    ...Object.fromEntries(companions.map((key) => [key, (keys as Readonly<Record<string, unknown>>)[key] ?? null])),
    ...(resolved === undefined
      ? { init_lora_weights: plainInit(init) }
      : (resolved.method.peft?.write(resolved.options) ?? { init_lora_weights: true })),
  };
}

function readPattern(file: JsonObject, key: string): Pattern {
  const value = file[key] ?? {};
  if (!isJsonObject(value) || !Object.values(value).every((entry) => typeof entry === 'number')) {
    throw new ConfigError(`adapter_config.json: "${key}" must be an object of numbers; got ${JSON.stringify(value)}`);
  }
  return value as Pattern;
}

function read(file: JsonObject): Partial<LoraConfig> {
  for (const [key, what] of Object.entries(unsupported)) {
    if (!isNeutral(file[key]))
      throw new ConfigError(`adapter_config.json: "${key}" (${what}) is not supported; got ${JSON.stringify(file[key])}`);
  }
  const tokens = file.trainable_token_indices;
  return {
    rank: readValue(file, 'r', 'number', keys.r),
    alpha: readValue(file, 'lora_alpha', 'number', keys.lora_alpha),
    dropout: readValue(file, 'lora_dropout', 'number', keys.lora_dropout),
    rsLora: readValue(file, 'use_rslora', 'boolean', false),
    dora: readValue(file, 'use_dora', 'boolean', false),
    loraBias: readValue(file, 'lora_bias', 'boolean', false),
    bias: readValue<LoraConfig['bias']>(file, 'bias', 'string', 'none'),
    init: readInit(file),
    rankPattern: readPattern(file, 'rank_pattern'),
    alphaPattern: readPattern(file, 'alpha_pattern'),
    trainableTokenIndices: isNeutral(tokens) ? null : (tokens as LoraConfig['trainableTokenIndices']),
  };
}

/** LoRA in PEFT's files. `init_lora_weights` and `fan_in_fan_out` of a loaded file are written back as they were. */
export const peftLora: PeftFormat<LoraConfig> = {
  keys,
  read,
  write: (config) => ({
    r: config.rank,
    lora_alpha: config.alpha,
    lora_dropout: config.dropout,
    use_rslora: config.rsLora,
    use_dora: config.dora,
    lora_bias: config.loraBias,
    bias: config.bias,
    ...writeInit(config.init),
    rank_pattern: config.rankPattern,
    alpha_pattern: config.alphaPattern,
    trainable_token_indices: config.trainableTokenIndices,
  }),
};
