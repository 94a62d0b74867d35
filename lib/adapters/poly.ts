import { ConfigError } from '../errors.js';
import { peftPoly } from '../io/peft-poly.js';
import { Linear } from '../nn/linear.js';
import { zeros } from '../ops/create.js';
import { noGrad, scope, unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { AdapterMethod, CreateContext, Preparation, Target } from './adapter.js';
import { type StartContext, startUniform } from './named-start.js';
import { checkPoly, type PolyConfig, polyDefaults } from './poly-config.js';
import { Inventory } from './poly-inventory.js';
import { PolyLinear } from './poly-linear.js';
import { portablePoly } from './poly-portable.js';
import { PolyRouter, type RouterSettings } from './poly-router.js';

/** Logits start uniform within this, near equal parts of all skills. */
const kLogitsBound = 1e-3;

/** A tensor that no scope releases. */
const lasting = (make: () => Tensor, trained = true): Tensor => unscoped(() => scope(() => noGrad(make))).setRequiresGrad(trained);

/** New logits [T, H * S] of a router. */
export function startLogits(tasks: number, { skills, splits }: RouterSettings, path: string, context: StartContext): Tensor {
  return lasting(() => startUniform(context, path, 'poly_router.module_logits', [tasks, splits * skills], kLogitsBound));
}

/** The linear layer of a target. Throws `ConfigError` for another kind, and for one that cannot be split. */
function linearOf({ path, layer }: Target, { splits }: PolyConfig): Linear {
  if (!(layer instanceof Linear))
    throw new ConfigError(`poly: cannot adapt "${path}"; got ${layer.constructor.name}, expected a linear layer`);
  const { inFeatures, outFeatures } = layer;
  if (inFeatures % splits !== 0 || outFeatures % splits !== 0)
    throw new ConfigError(
      `poly: splits must divide inputs and outputs of "${path}"; got ${splits} for ${inFeatures} inputs and ${outFeatures} outputs`,
    );
  return layer;
}

/** Starting factors of a layer: A [H, S, K / H, R] and B [H, S, R, N / H]. */
function startFactors(
  path: string,
  { inFeatures, outFeatures }: Linear,
  config: PolyConfig,
  context: CreateContext,
): { a: Tensor; b: Tensor } {
  const { rank, skills, splits, init } = config;
  const randomB = config.randomB || config.branchWarmup > 0;
  const { dtype } = context;
  const [input, output] = [inFeatures / splits, outFeatures / splits];
  const reference = 1 / Math.sqrt(3 * inFeatures);
  const [boundA, boundB] = init === 'mttl' ? [reference, reference] : [1 / Math.sqrt(input), 1 / Math.sqrt(rank)];
  const shapeB = [splits, skills, rank, output];
  return {
    a: lasting(() => startUniform(context, path, 'poly_lora_A', [splits, skills, input, rank], boundA)),
    b: lasting(() => (randomB ? startUniform(context, path, 'poly_lora_B', shapeB, boundB) : zeros(shapeB, { dtype }))),
  };
}

/** A new router; that of `'mu'` weighs all skills alike and is not trained. */
function routerOf(path: string, config: PolyConfig, context: CreateContext): PolyRouter {
  const { tasks, skills, splits, gates, gateDropout, sharedSkill, averageCorrection } = config;
  const settings = { skills, splits, gates, gateDropout, sharedSkill, averageCorrection };
  if (config.finetune !== 'mu') return new PolyRouter(startLogits(tasks, settings, path, context), settings);
  return new PolyRouter(
    lasting(() => zeros([tasks, splits * skills], { dtype: context.dtype }), false),
    settings,
    true,
  );
}

function moduleOf(
  target: Target,
  config: PolyConfig,
  context: CreateContext,
  router: PolyRouter,
  factors?: { a: Tensor; b: Tensor },
): PolyLinear {
  const { path } = target;
  const layer = linearOf(target, config);
  const { a, b } = factors ?? startFactors(path, layer, config, context);
  const { alpha, rank, branchWarmup, annealing } = config;
  return new PolyLinear(a, b, router, { scale: alpha / rank, branchWarmup, annealing, seed: context.seed, path });
}

/** The layers that share a router have the same key. */
function routerKey(path: string, granularity: PolyConfig['granularity']): string {
  if (granularity === 'finegrained') return path;
  if (granularity === 'coarsegrained') return '';
  if (granularity === 'coderwise') return /^(?:.*\.)?(?:en|de)coder(?=\.)/.exec(path)?.[0] ?? '';
  const block = /^(?:.*?\.)?\d+(?=\.)/.exec(path)?.[0];
  if (block === undefined) return path;
  return granularity === 'blockwise' ? block : `${block}.${path.slice(block.length + 1).split('.')[0]}`;
}

/** Of a config with an inventory, or with routers that layers share; others are made layer by layer. */
async function prepare(
  targets: readonly Target[],
  given: PolyConfig,
  context: CreateContext,
): Promise<Preparation<PolyConfig> | undefined> {
  const reads = given.inventory !== null && !context.loading;
  if (!reads && given.granularity === 'finegrained') return undefined;
  const inventory = reads ? await Inventory.read(given, targets) : undefined;
  const config = inventory?.config ?? given;
  const routers = new Map<string, PolyRouter>();
  return {
    config,
    targets,
    create: (target) => {
      linearOf(target, config);
      const key = routerKey(target.path, config.granularity);
      const router = routers.get(key) ?? routerOf(key, config, context);
      routers.set(key, router);
      const kept = config.finetune === 'rand' ? undefined : inventory?.factors(target, context.dtype);
      return moduleOf(target, config, context, router, kept);
    },
    dispose: () => inventory?.dispose(),
  };
}

/**
 * Poly and, with `splits` above 1, MHR: skills that tasks share, averaged for each task by learned weights; a forward pass is told the task
 * of each row. "Combining Modular Skills in Multitask Learning"; "Multi-Head Adapter Routing for Cross-Task Generalization".
 *
 * ```ts
 * const tuned = await attach(model, { type: 'poly', tasks: 24, skills: 8, splits: 8 });
 * tuned.loss({ ids, tasks: [3, 17], training: true }).backward();
 * ```
 */
export const poly = {
  name: 'poly',
  prefix: 'poly_',
  peftType: 'POLY',
  peft: peftPoly,
  defaults: polyDefaults,
  check: checkPoly,
  startsAsIdentity: ({ branchWarmup, randomB, inventory, finetune }) =>
    branchWarmup > 0 || (!randomB && (inventory === null || finetune === 'rand')),
  plain: (config) => ({ ...config, inventory: null, finetune: 'full' }),
  roles: ['attention.query', 'attention.key', 'attention.value', 'attention.output'],
  kinds: ['linear'],
  prepare,
  create: (target, config, context) => {
    linearOf(target, config);
    return moduleOf(target, config, context, routerOf(target.path, config, context));
  },
  portable: portablePoly,
  rates: ({ routerLearningRate: learningRate }) =>
    learningRate === null ? [] : [{ end: 'poly_router.module_logits', learningRate, weightDecay: 0 }],
} as const satisfies AdapterMethod<'poly', PolyConfig>;
