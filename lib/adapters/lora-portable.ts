import { AdapterError } from '../errors.js';
import { resolveInit } from '../inits/registry.js';
import { neg } from '../ops/elementwise.js';
import { concat } from '../ops/join.js';
import type { Tensor } from '../tensor.js';
import type { AdapterForm, Placement, PortableAdapter, TakenKind } from './adapter.js';
import { namedTensors, tensorsOf } from './adapter-table.js';
import type { LoraConfig } from './lora-config.js';
import { LoraLinear } from './lora-linear.js';
import type { Pattern } from './patterns.js';
import type { TakenPair } from './taken-pair.js';

/** What a config takes out of the frozen weights. */
export function takesOf({ init }: LoraConfig): TakenKind | undefined {
  const resolved = resolveInit(init);
  if (resolved === undefined || !resolved.method.changesBase) return undefined;
  const { method, options } = resolved;
  return {
    name: method.name,
    usesData: method.usesData,
    repeatable: !method.usesData && (method.peft?.repeatable(options) ?? true),
    formedFromFactors: method.formedFromFactors?.(options) ?? true,
  };
}

/** The adapter in one of its forms. Throws `AdapterError` for the split forms of one that took nothing out of the weights. */
export function portableLora(config: LoraConfig, placements: readonly Placement[], form: AdapterForm): PortableAdapter<LoraConfig> {
  const isSplit = placements.some(({ module }) => module.taken !== undefined);
  const isPublished = form === 'published' || form === 'lora';
  if (!isSplit && !isPublished)
    throw new AdapterError(`save: form "${form}" is of adapters that took a part out of the frozen weights; expected "published"`);
  if (form === 'initial') return initial(config, placements);
  const isDoubled = isSplit && isPublished;
  return {
    config: isDoubled ? doubled(config) : { ...config, ...(isSplit ? { init: true } : {}) },
    tensors: placements.flatMap(({ path, module }) => namedTensors(path, isDoubled ? publishedTensors(module) : tensorsOf(module))),
  };
}

/** The pairs that were taken, and nothing of what is trained beside them. */
function initial(config: LoraConfig, placements: readonly Placement[]): PortableAdapter<LoraConfig> {
  return {
    config: { ...config, init: true, bias: 'none', modulesToSave: null, trainableTokenIndices: null },
    tensors: placements.flatMap(({ path, module }) => {
      if (module.taken === undefined) return [];
      const { initial_A: a, initial_B: b } = (module.taken as TakenPair).tensors;
      return [[`${path}.lora_A.weight`, a] as const, [`${path}.lora_B.weight`, b] as const];
    }),
  };
}

/**
 * Where a pair took s B0 A0 out of the weights, s (B A - B0 A0) is one pair of twice the rank on the published ones, with alpha raised so that s stays:
 * "PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language Models".
 */
function doubled(config: LoraConfig): LoraConfig {
  const alphaFactor = config.rsLora ? Math.SQRT2 : 2;
  return {
    ...config,
    init: true,
    rank: 2 * config.rank,
    alpha: alphaFactor * config.alpha,
    rankPattern: scaled(config.rankPattern, 2),
    alphaPattern: scaled(config.alphaPattern, alphaFactor),
  };
}

const scaled = (pattern: Pattern, factor: number): Pattern =>
  Object.fromEntries(Object.entries(pattern).map(([key, value]) => [key, value * factor]));

function publishedTensors(module: Placement['module']): [string, Tensor][] {
  const own = tensorsOf(module);
  if (!(module instanceof LoraLinear) || module.taken === undefined) return own;
  const { initial_A: a, initial_B: b } = module.taken.tensors;
  return own.map(([end, value]) => {
    if (end === 'lora_A.weight') return [end, concat([value, a], 0)];
    if (end === 'lora_B.weight') return [end, concat([value, neg(b)], 1)];
    return [end, value];
  });
}
