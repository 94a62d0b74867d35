import { ConfigError } from '../errors.js';
import { peftBottleneck } from '../io/peft-bottleneck.js';
import { isIdentity } from '../nn/activations.js';
import { Linear } from '../nn/linear.js';
import { normal, ones, zeros } from '../ops/create.js';
import { unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { AdapterMethod, AdapterModule, CreateContext, Placement, Target } from './adapter.js';
import {
  type BottleneckConfig,
  bottleneckDefaults,
  bottleneckRoles,
  checkBottleneck,
  type Position,
  positionOf,
} from './bottleneck-config.js';
import { BottleneckLinear, type BottleneckTensors, LinearBottleneck } from './bottleneck-linear.js';
import { randomOf, startUniform } from './named-start.js';
import { isSavedWhole } from './targets.js';
import { parametersOf, TrainedCopy } from './trained-copy.js';

/** Deviation of both matrices with `init: 'bert'`. */
const kBertDeviation = 0.02;

/** Starting values of an adapter at F: [K] to [N]. */
function start(layer: Linear, position: Position, path: string, config: BottleneckConfig, context: CreateContext): BottleneckTensors {
  const { bottleneckSize: size, init, scaling } = config;
  const { dtype } = context;
  const inputs = position === 'after' ? layer.outFeatures : layer.inFeatures;
  const outputs = position === 'before' ? layer.inFeatures : layer.outFeatures;
  const make = (): BottleneckTensors => ({
    down:
      init === 'bert'
        ? normal([size, inputs], { ...randomOf(context, path, 'adapter_down.weight'), std: kBertDeviation })
        : startUniform(context, path, 'adapter_down.weight', [size, inputs], 1 / Math.sqrt(inputs)),
    up:
      init === 'bert'
        ? normal([outputs, size], { ...randomOf(context, path, 'adapter_up.weight'), std: kBertDeviation })
        : zeros([outputs, size], { dtype }),
    ...(scaling === 'learned' && { scaling: ones([1], { dtype }) }),
  });
  const tensors = unscoped(make);
  for (const value of Object.values(tensors) as Tensor[]) value.setRequiresGrad(true);
  return tensors;
}

function create({ path, layer }: Target, config: BottleneckConfig, context: CreateContext): AdapterModule {
  if (!(layer instanceof Linear))
    throw new ConfigError(`bottleneck: cannot adapt "${path}" (${layer.constructor.name}); it adapts linear layers`);
  const position = positionOf(config, path, layer.role);
  const { nonLinearity, dropout, scaling } = config;
  const options = { position, nonLinearity, dropout, scale: scaling === 'learned' ? 1 : scaling, seed: context.seed, path };
  const tensors = start(layer, position, path, config, context);
  return isIdentity(nonLinearity) ? new LinearBottleneck(tensors, options) : new BottleneckLinear(tensors, options);
}

/** Trained biases under the layers' own names. A model without biases has none. */
function* biases(
  layers: readonly Target[],
  targets: readonly Target[],
  config: BottleneckConfig,
  context: CreateContext,
): Iterable<Placement> {
  if (config.bias === 'none') return;
  const adapted = new Set(targets.map(({ path }) => path));
  for (const { path, layer } of layers) {
    if (!parametersOf(layer).has('bias') || isSavedWhole(config, path)) continue;
    if (config.bias === 'all' || adapted.has(path)) yield { path, module: new TrainedCopy(layer, context.dtype, ['bias']) };
  }
}

/**
 * Bottleneck adapters: two matrices with an activation between them, in series with linear layers or next to them.
 * "LLM-Adapters: An Adapter Family for Parameter-Efficient Fine-Tuning of Large Language Models".
 *
 * ```ts
 * const tuned = await attach(model, { type: 'bottleneck', bottleneckSize: 64, parallel: true, targets: ['up_proj', 'down_proj'] });
 * ```
 */
export const bottleneck = {
  name: 'bottleneck',
  prefix: 'adapter_',
  peftType: 'BOTTLENECK',
  peft: peftBottleneck,
  defaults: bottleneckDefaults,
  check: checkBottleneck,
  startsAsIdentity: ({ init }) => init === 'mam_adapter',
  roles: bottleneckRoles,
  kinds: ['linear'],
  create,
  extras: biases,
  conflict: (config, other) =>
    config.bias !== 'none' && other.bias !== 'none'
      ? `only one adapter may train biases; got bias ${config.bias} beside ${other.bias}`
      : undefined,
} as const satisfies AdapterMethod<'bottleneck', BottleneckConfig>;
