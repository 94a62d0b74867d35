import { AdapterError, ConfigError } from '../errors.js';
import type { Tensor } from '../tensor.js';
import type { AdapterSet } from './adapter-set.js';
import type { TunedModel } from './tuned-model.js';

/** Options of LoRA+. */
export interface LoraPlusOptions {
  /** Learning rate of everything but what follows. */
  readonly learningRate: number;
  /** Learning rate of B and of every vector, as a multiple; at least 1, 16 is customary. */
  readonly ratio: number;
  /** Learning rate of embedding pairs. Default 1e-6. */
  readonly embeddingLearningRate?: number;
  /** Weight decay of all groups but vectors that take none. Default 0. */
  readonly weightDecay?: number;
}

/** Parameters with their own learning rate, in the form the optimizers take. */
export interface LoraPlusGroup {
  readonly name: 'a' | 'embedding' | 'b' | 'b-no-decay';
  readonly parameters: Tensor[];
  readonly learningRate: number;
  readonly weightDecay: number;
}

function groupOf(name: string, value: Tensor): LoraPlusGroup['name'] {
  if (name.includes('lora_embedding_')) return 'embedding';
  if (name.includes('lora_B') || value.rank === 1) return name.endsWith('bias') || isNorm(name) ? 'b-no-decay' : 'b';
  return 'a';
}

const isNorm = (name: string): boolean => /norm[^.]*\.(weight|bias)$/i.test(name);

/**
 * Parameter groups with a higher learning rate for B ("LoRA+: Efficient Low Rank Adaptation of Large Models"), for the active adapters. Groups without
 * parameters are left out.
 *
 * ```ts
 * const optimizer = new AdamW(loraPlusGroups(tuned, { learningRate: 2e-4, ratio: 16 }));
 * ```
 */
export function loraPlusGroups(tuned: Pick<TunedModel | AdapterSet, 'namedParameters'>, options: LoraPlusOptions): LoraPlusGroup[] {
  const { learningRate, ratio, embeddingLearningRate = 1e-6, weightDecay = 0 } = options;
  if (!(ratio >= 1)) throw new ConfigError(`loraPlusGroups: ratio must be at least 1; got ${ratio}`);
  if (!(learningRate > 0)) throw new ConfigError(`loraPlusGroups: learningRate must be positive; got ${learningRate}`);
  const rates = {
    a: [learningRate, weightDecay],
    embedding: [embeddingLearningRate, weightDecay],
    b: [learningRate * ratio, weightDecay],
    'b-no-decay': [learningRate * ratio, 0],
  } as const;
  const members = new Map<LoraPlusGroup['name'], Tensor[]>();
  for (const [name, value] of tuned.namedParameters()) {
    if (!value.requiresGrad) continue;
    const group = groupOf(name, value);
    members.set(group, [...(members.get(group) ?? []), value]);
  }
  if (members.size === 0) throw new AdapterError('loraPlusGroups: no parameters to train; activate an adapter first');
  return (Object.keys(rates) as LoraPlusGroup['name'][]).flatMap((name) => {
    const parameters = members.get(name);
    return parameters === undefined ? [] : [{ name, parameters, learningRate: rates[name][0], weightDecay: rates[name][1] }];
  });
}
