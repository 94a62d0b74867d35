import { ConfigError } from '../errors.js';
import { peftHydra } from '../io/peft-hydra.js';
import { Linear } from '../nn/linear.js';
import { normal, ones, zeros } from '../ops/create.js';
import { noGrad, scope, unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { AdapterMethod, CreateContext, Target } from './adapter.js';
import { checkHydra, type HydraConfig, type HydraInit, hydraDefaults } from './hydra-config.js';
import { type HydraBranch, HydraLinear } from './hydra-linear.js';
import { portableHydra } from './hydra-portable.js';
import { Factor } from './low-rank.js';
import { randomOf, type StartContext, startUniform } from './named-start.js';

/** A trainable tensor that no scope releases. */
const parameter = (make: () => Tensor): Tensor => unscoped(() => scope(() => noGrad(make))).setRequiresGrad(true);

/** The starting down-projection [R, K]. */
function startDown(
  init: HydraInit,
  shape: readonly [rank: number, inputs: number],
  context: StartContext,
  path: string,
  name: string,
): Tensor {
  if (init === 'normal0.02') return normal(shape, { ...randomOf(context, path, name), std: 0.02 });
  const [rank, inputs] = shape;
  return startUniform(context, path, name, shape, init === 'xavier' ? Math.sqrt(6 / (inputs + rank)) : 1 / Math.sqrt(inputs));
}

function branch(
  name: 'par' | 'seq',
  [rank, inputs, outputs]: readonly [number, number, number],
  { path, bias, init }: { path: string; bias: boolean; init: HydraInit },
  context: CreateContext,
): HydraBranch | undefined {
  if (rank === 0) return undefined;
  const { dtype } = context;
  const none = (size: number): Tensor | undefined => (bias ? parameter(() => zeros([size], { dtype })) : undefined);
  return {
    down: new Factor(
      parameter(() => startDown(init, [rank, inputs], context, path, `hydra_${name}_A.weight`)),
      none(rank),
    ),
    up: new Factor(
      parameter(() => zeros([outputs, rank], { dtype })),
      none(outputs),
    ),
  };
}

function create({ path, layer }: Target, config: HydraConfig, context: CreateContext): HydraLinear {
  if (!(layer instanceof Linear))
    throw new ConfigError(`hydra: cannot adapt "${path}"; got ${layer.constructor.name}, expected a linear layer`);
  const { inFeatures: inputs, outFeatures: outputs } = layer;
  const settings = { path, bias: config.bias === 'auto' ? layer.bias !== undefined : config.bias, init: config.init };
  return new HydraLinear(
    layer,
    branch('par', [config.rankParallel, inputs, outputs], settings, context),
    branch('seq', [config.rankSequential, outputs, outputs], settings, context),
    {
      scale: config.scale === 'learned' ? parameter(() => ones([1], { dtype: context.dtype })) : config.scale,
      dropout: config.dropout,
      seed: context.seed,
      path,
    },
  );
}

/** Names of layers whose outputs are queries, keys and values side by side. */
const kFused = /(^|\.)(qkv(_proj)?|query_key_value|c_attn|in_proj|wqkv)$/i;

/** A sequential branch over queries, keys and values together mixes the three, which is seldom meant. */
function warnOfFused(targets: readonly Target[], { rankSequential }: HydraConfig): void {
  const fused = targets.filter(({ path }) => kFused.test(path));
  if (rankSequential === 0 || fused.length === 0) return;
  process.emitWarning(
    `hydra: the sequential branch mixes queries, keys and values of ${fused.length} fused projections; got "${fused[0]?.path}" among the targets, expected ` +
      'separate projections, or rankSequential 0',
    'LorikeetWarning',
  );
}

/**
 * Hydra: a parallel low-rank branch on the input and a sequential one on the output of frozen linear layers, both linear, so that both fold
 * into the weight. "Hydra: Multi-head Low-rank Adaptation for Parameter Efficient Fine-tuning".
 *
 * ```ts
 * const tuned = await attach(model, { type: 'hydra', rankParallel: 2, rankSequential: 2 });
 * ```
 */
export const hydra = {
  name: 'hydra',
  prefix: 'hydra_',
  peftType: 'HYDRA',
  peft: peftHydra,
  defaults: hydraDefaults,
  check: checkHydra,
  roles: ['attention.output', 'mlp.down'],
  kinds: ['linear'],
  create,
  extras: (_layers, targets, config) => {
    warnOfFused(targets, config);
    return [];
  },
  portable: portableHydra,
} as const satisfies AdapterMethod<'hydra', HydraConfig>;
