import { ConfigError } from '../errors.js';
import { kSignBits, type SignBits } from '../ops/sign.js';
import { type CommonConfig, commonDefaults } from './adapter.js';

/** `adaptformer`: a bottleneck beside the MLP of each block. `lora`: a low-rank branch beside linear layers. */
export const kBinaryAdapters = ['adaptformer', 'lora'] as const;
export type BinaryAdapter = (typeof kBinaryAdapters)[number];

/** Bits a weight; 32 is f32. */
export type BinaryBits = SignBits | 32;

/** Options of binary adapters; each is optional in `attach`. */
export interface BinaryConfig extends CommonConfig {
  /** What is adapted, and how. Default `adaptformer`. */
  adapter: BinaryAdapter;
  /** Bits a weight: 1, 2, 4, 8, or 32 for a plain adapter. Default 1. */
  bits: BinaryBits;
  /** Width of the bottleneck, or rank of the branch. Default 32. */
  dim: number;
  /** Factor of what the adapter adds: the paper chooses among 0.01, 0.1, 1, 10 and 100 for each task. Default 1. */
  scale: number;
  /** Probability of dropping an element between the two products in training. Default 0.1. */
  dropout: number;
  /** Train a new head of one bit a weight, without bias, in place of the model's own. Default false. */
  bihead: boolean;
  /**
   * What the adapter is made of: `master` weights, which train; or `codes` of a file, for inference alone. Set by `save`. Default
   * `master`.
   */
  storage: 'master' | 'codes';
}

export const binaryDefaults: BinaryConfig = {
  ...commonDefaults,
  adapter: 'adaptformer',
  bits: 1,
  dim: 32,
  scale: 1,
  dropout: 0.1,
  bihead: false,
  storage: 'master',
};

/** Throws `ConfigError` for what cannot work on any model. */
export function checkBinary({ adapter, bits, dim, scale, dropout, bihead, storage }: BinaryConfig): void {
  const wrong = (key: string, got: unknown, expected: string): ConfigError =>
    new ConfigError(`binary: ${key} cannot be used; got ${JSON.stringify(got)}, expected ${expected}`);
  if (!kBinaryAdapters.includes(adapter)) throw wrong('adapter', adapter, '"adaptformer" or "lora"');
  if (bits !== 32 && !kSignBits.includes(bits)) throw wrong('bits', bits, '1, 2, 4, 8 or 32');
  if (!(Number.isSafeInteger(dim) && dim > 0)) throw wrong('dim', dim, 'a positive whole number');
  if (!Number.isFinite(scale)) throw wrong('scale', scale, 'a number');
  if (!(typeof dropout === 'number' && dropout >= 0 && dropout < 1)) throw wrong('dropout', dropout, 'at least 0 and below 1');
  if (typeof bihead !== 'boolean') throw wrong('bihead', bihead, 'true or false');
  if (storage !== 'master' && storage !== 'codes') throw wrong('storage', storage, '"master" or "codes"');
}
