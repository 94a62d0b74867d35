import { ConfigError } from '../errors.js';
import { type CommonConfig, commonDefaults } from './adapter.js';

/**
 * Which layers share the logits of the router: each its own, those of one attention or MLP, of one block, of the encoder or decoder, or
 * all.
 */
export type RouterGranularity = 'finegrained' | 'layerwise' | 'blockwise' | 'coderwise' | 'coarsegrained';

/**
 * How gates come from logits z. `'relaxed'`: in training sigmoid(z + log u - log(1 - u)) with u uniform, drawn anew for each row and layer;
 * sigmoid(z) elsewhere. `'sigmoid'`: sigmoid(z). `'straight-through'`: 0 or 1, with the gradient of sigmoid(z). `'l2'`: z divided by its
 * norm over the skills.
 */
export type RouterGates = 'relaxed' | 'sigmoid' | 'straight-through' | 'l2';

/**
 * How a saved inventory is adapted to new tasks. `'full'`: factors and a new router are trained. `'z'`: the new router alone. `'mu'`: the
 * factors, with every skill in equal parts. `'rand'`: all anew, of the sizes of the inventory.
 */
export type PolyFinetune = 'full' | 'z' | 'mu' | 'rand';

/** Weights w of skills become w cos(p π / 2) + (1 - cos(p π / 2)) / S, where p goes from 0 to 1 over `passes` passes in training after the first `after`. */
export interface PolyAnnealing {
  readonly after: number;
  readonly passes: number;
}

/** Options of Poly and MHR; each is optional in `attach`. */
export interface PolyConfig extends CommonConfig {
  /** R, the width of each skill. Default 8. */
  rank: number;
  /** The branch is scaled by alpha / rank. Default 1. */
  alpha: number;
  /** T, the number of tasks. Default 1. */
  tasks: number;
  /** S, the number of skills that the tasks share in each layer. Default 4. */
  skills: number;
  /** H: inputs and outputs are split into so many blocks, each routed by itself (MHR); must divide both. Default 1, which is Poly. */
  splits: number;
  /** Default `'relaxed'`. */
  gates: RouterGates;
  /** Probability of dropping a gate in training. Default 0. */
  gateDropout: number;
  /** The last skill is used by every task, with gate 1. Default false. */
  sharedSkill: boolean;
  /** Gates times sqrt(H / S), in place of gates divided by their sum over the skills. Default false. */
  averageCorrection: boolean;
  /** Default `'finegrained'`. */
  granularity: RouterGranularity;
  /**
   * Start of A: uniform within sqrt(H / inputs) as in PEFT, or within 1 / sqrt(3 * inputs) as in the reference implementation (`'mttl'`).
   * Default `'peft'`.
   */
  init: 'peft' | 'mttl';
  /** B starts random in place of zero, so that the adapter changes the model from the start. Default false. */
  randomB: boolean;
  /**
   * Passes in training over which the branch rises on a straight line from nothing; B then starts random. The reference implementation has 10,000. Default 0: it is
   * there from the start.
   */
  branchWarmup: number;
  /** When the weights of the skills go over to equal parts in training, for an average that serves new tasks (`task: 'mean'`). Default null: never. */
  annealing: PolyAnnealing | null;
  /** Learning rate of the router in a run of `train`, without weight decay; null: that of all others. Default 0.1. */
  routerLearningRate: number | null;
  /** Folder of a saved Poly adapter from which to start: sizes and alpha are those of the file. Default null. */
  inventory: string | null;
  /** With `inventory`: what of it is trained. Default `'full'`. */
  finetune: PolyFinetune;
}

export const polyDefaults: PolyConfig = {
  ...commonDefaults,
  rank: 8,
  alpha: 1,
  tasks: 1,
  skills: 4,
  splits: 1,
  gates: 'relaxed',
  gateDropout: 0,
  sharedSkill: false,
  averageCorrection: false,
  granularity: 'finegrained',
  init: 'peft',
  randomB: false,
  branchWarmup: 0,
  annealing: null,
  routerLearningRate: 0.1,
  inventory: null,
  finetune: 'full',
};

const words = {
  gates: ['relaxed', 'sigmoid', 'straight-through', 'l2'],
  granularity: ['finegrained', 'layerwise', 'blockwise', 'coderwise', 'coarsegrained'],
  init: ['peft', 'mttl'],
  finetune: ['full', 'z', 'mu', 'rand'],
} as const;

const wrong = (key: string, got: unknown, expected: string): ConfigError =>
  new ConfigError(`poly: ${key} cannot be used; got ${JSON.stringify(got) ?? 'nothing'}, expected ${expected}`);
const isWhole = (value: unknown, from: number): boolean => Number.isSafeInteger(value) && (value as number) >= from;
const isPositive = (value: unknown): boolean => typeof value === 'number' && Number.isFinite(value) && value > 0;

/** Throws `ConfigError` for what cannot work on any model. */
export function checkPoly(config: PolyConfig): void {
  for (const key of ['rank', 'tasks', 'skills', 'splits'] as const)
    if (!isWhole(config[key], 1)) throw wrong(key, config[key], 'a whole number of at least 1');
  for (const [key, known] of Object.entries(words) as [keyof typeof words, readonly string[]][])
    if (!known.includes(config[key])) throw wrong(key, config[key], known.map((word) => `"${word}"`).join(', '));
  for (const key of ['sharedSkill', 'averageCorrection', 'randomB'] as const)
    if (typeof config[key] !== 'boolean') throw wrong(key, config[key], 'true or false');
  if (!isWhole(config.branchWarmup, 0)) throw wrong('branchWarmup', config.branchWarmup, 'a whole number of passes, 0 for none');
  checkAnnealing(config.annealing);
  const { alpha, gateDropout, gates, sharedSkill, averageCorrection, routerLearningRate, inventory, finetune } = config;
  if (!(typeof alpha === 'number' && Number.isFinite(alpha))) throw wrong('alpha', alpha, 'a number');
  if (!(typeof gateDropout === 'number' && gateDropout >= 0 && gateDropout < 1))
    throw wrong('gateDropout', gateDropout, 'a number of at least 0 and below 1');
  if (gates === 'l2' && (sharedSkill || averageCorrection || gateDropout > 0))
    throw wrong('gates', gates, 'other gates, or no gateDropout, sharedSkill and averageCorrection, which norms leave no place for');
  if (routerLearningRate !== null && !isPositive(routerLearningRate))
    throw wrong('routerLearningRate', routerLearningRate, 'a number above 0, or null');
  if (inventory !== null && !(typeof inventory === 'string' && inventory !== '')) throw wrong('inventory', inventory, 'a folder');
  if (inventory === null && finetune !== 'full')
    throw wrong('finetune', finetune, '"full" without "inventory", the folder of what is to be adapted');
  if (finetune === 'mu' && (gates === 'straight-through' || gates === 'l2' || sharedSkill || averageCorrection))
    throw wrong(
      'finetune',
      finetune,
      '"mu" with gates "relaxed" or "sigmoid", without sharedSkill and averageCorrection: its skills count alike',
    );
}

function checkAnnealing(annealing: unknown): void {
  if (annealing === null) return;
  const { after, passes, ...rest } = (typeof annealing === 'object' ? annealing : {}) as Record<string, unknown>;
  if (!isWhole(after, 0) || !isWhole(passes, 1) || Object.keys(rest).length > 0)
    throw wrong('annealing', annealing, '{ after, passes }, whole numbers of at least 0 and 1, or null');
}
