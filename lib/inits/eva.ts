import { ConfigError, NonFiniteError } from '../errors.js';
import { isJsonObject } from '../io/json.js';
import { zeros } from '../ops/create.js';
import { cast, clone, div, mul, sqrt } from '../ops/elementwise.js';
import { narrow, unsqueeze } from '../ops/shape.js';
import { disposeTensors } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { grouped, settle } from './component-search.js';
import type { InitContext, InitMethod, Start, StartLayer } from './init.js';
import { inputGroupsOf } from './input-groups.js';
import type { PrincipalComponents } from './principal-components.js';
import { requireWhole } from './require-whole.js';
import { onLayer } from './split.js';

/** Options of EVA. */
export interface EvaOptions {
  /** A layer gets at most rho times its configured rank; 1: every layer keeps it. Above 1000: as many as its input has. */
  rho: number;
  /** The cosine between successive estimates of a component from which on it counts as settled, 0 to 1. */
  tau: number;
  /** Look only at positions that have a target. */
  useLabelMask: boolean;
  /** Divide each row of A by the root of its singular value. */
  whiten: boolean;
  /** Multiply each row of A by its singular value, as a share of the largest. */
  scaleBySingularValues: boolean;
  /** Where a layer's rank changes, change its alpha so that its scale stays. */
  adjustScalingFactors: boolean;
  /** Batches that each layer takes in before its components may count as settled. */
  minBatches: number;
  /** Batches after which a warning tells that components are not settled, and they are taken as they are. */
  maxBatches: number;
  /** Batches that a recipe has read for it; they are gone through again as long as needed. */
  batches: number;
  /** Rows of such a batch. */
  batchSize: number;
}

const defaults: EvaOptions = {
  rho: 2,
  tau: 0.99,
  useLabelMask: true,
  whiten: false,
  scaleBySingularValues: false,
  adjustScalingFactors: true,
  minBatches: 1,
  maxBatches: 200,
  batches: 64,
  batchSize: 4,
};

function check(options: EvaOptions): void {
  const wrong = (key: keyof EvaOptions, expected: string): ConfigError =>
    new ConfigError(`eva: ${key} must be ${expected}; got ${JSON.stringify(options[key])}`);
  const { rho, tau, minBatches, maxBatches } = options;
  if (typeof rho !== 'number' || !(rho >= 1) || rho === Infinity) throw wrong('rho', 'a number from 1 on');
  if (typeof tau !== 'number' || !(tau >= 0 && tau <= 1)) throw wrong('tau', 'a number from 0 to 1');
  for (const key of ['useLabelMask', 'whiten', 'scaleBySingularValues', 'adjustScalingFactors'] as const)
    if (typeof options[key] !== 'boolean') throw wrong(key, 'true or false');
  for (const key of ['minBatches', 'batches', 'batchSize'] as const) requireWhole('eva', key, options[key], 1);
  if (!Number.isSafeInteger(maxBatches) || maxBatches < minBatches) throw wrong('maxBatches', 'a whole number not below minBatches');
}

/** Options by their name in `eva_config`. */
const peftKeys = {
  rho: 'rho',
  tau: 'tau',
  useLabelMask: 'use_label_mask',
  whiten: 'whiten',
  adjustScalingFactors: 'adjust_scaling_factors',
} as const;

/** A [rank, K] of one layer. */
function rowsOfA(found: PrincipalComponents, rank: number, { whiten, scaleBySingularValues }: EvaOptions): Tensor {
  const s = unsqueeze(narrow(found.singularValues, 0, 0, rank), 1);
  let a = narrow(found.components, 0, 0, rank);
  if (scaleBySingularValues) a = mul(a, div(s, narrow(found.singularValues, 0, 0, 1)));
  return whiten ? div(a, sqrt(s)) : a;
}

async function startOf(
  each: StartLayer,
  found: PrincipalComponents,
  rank: number,
  options: EvaOptions,
  context: InitContext,
): Promise<Start> {
  const { path, layer } = each;
  const { dtype } = context;
  const pair = await onLayer('eva', path, () => ({
    a: rank === 0 ? zeros([0, layer.inFeatures], { dtype }) : clone(cast(rowsOfA(found, rank, options), dtype)),
    b: zeros([layer.outFeatures, rank], { dtype }),
  }));
  const changed = rank > 0 && rank !== each.rank && options.adjustScalingFactors;
  return { path, ...pair, ...(changed ? { alpha: each.alphaAt(rank) } : {}) };
}

async function* start(layers: readonly StartLayer[], options: EvaOptions, context: InitContext): AsyncGenerator<Start> {
  if (layers.length === 0) return;
  const head = layers.some(({ layer }) => layer.role === 'head');
  const leaders = await inputGroupsOf(layers, context, head);
  const groups = grouped(layers, leaders, options);
  try {
    const ranks = await settle(layers, groups, options, context, head);
    for (const { layers: together, found } of groups) {
      const rank = Math.max(...together.map(({ path }) => ranks.get(path) ?? 0));
      const divided = rank === 0 ? 0 : options.whiten ? rank : options.scaleBySingularValues ? 1 : 0;
      await requireVariance(found, divided, together[0]?.path ?? '');
      for (const each of together) yield await startOf(each, found, ranks.get(each.path) ?? 0, options, context);
    }
  } finally {
    for (const { found, waiting } of groups) {
      found.dispose();
      disposeTensors(waiting);
    }
  }
}

/** Throws `NonFiniteError` where one of the first singular values, by which A is divided, is 0. */
async function requireVariance(found: PrincipalComponents, count: number, path: string): Promise<void> {
  const empty = [...((await found.singularValues.data()) as Float32Array)].slice(0, count).indexOf(0);
  if (empty >= 0)
    throw new NonFiniteError(`eva: A would be divided by the singular value of component ${empty} of the input of "${path}"; got 0`);
}

/**
 * Starts A from the principal components of each layer's input, B at zero, and gives ranks to the layers whose inputs they explain best. The frozen weights stay as
 * they are. "Parameter Efficient Fine-tuning via Explained Variance Adaptation".
 */
export const eva = {
  name: 'eva',
  defaults,
  named: (text) => (text === 'eva' ? {} : undefined),
  check,
  usesData: true,
  changesBase: false,
  start,
  peft: {
    read: (text, file) => {
      if (text !== 'eva') return undefined;
      const given = isJsonObject(file.eva_config) ? file.eva_config : {};
      const pairs = Object.entries(peftKeys).flatMap(([key, name]) => (given[name] === undefined ? [] : [[key, given[name]]]));
      return Object.fromEntries(pairs) as Partial<EvaOptions>;
    },
    write: (options) => ({
      init_lora_weights: 'eva',
      eva_config: {
        ...Object.fromEntries(Object.entries(peftKeys).map(([key, name]) => [name, options[key as keyof EvaOptions]])),
        label_mask_value: -100,
      },
    }),
    repeatable: () => true,
  },
} as const satisfies InitMethod<'eva', EvaOptions>;
