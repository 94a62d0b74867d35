import { ConfigError } from '../errors.js';
import { peftBinary } from '../io/peft-binary.js';
import { truncatedNormal } from '../nn/init.js';
import { Linear } from '../nn/linear.js';
import { noGrad, scope, unscoped } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { AdapterMethod, AdapterModule, CreateContext, Placement, Target } from './adapter.js';
import { type BinaryBits, type BinaryConfig, binaryDefaults, checkBinary } from './binary-config.js';
import { BinaryAdaptFormer, BinaryHead, BinaryLora } from './binary-modules.js';
import { portableBinary } from './binary-portable.js';
import { type BinaryWeight, MasterWeight, StoredWeight } from './binary-weight.js';
import { randomOf, startUniform } from './named-start.js';
import { streamWidth } from './sublayer-bottleneck.js';
import { isSavedWhole } from './targets.js';

/**
 * Deviation of the truncated normal distribution that the second product starts from: a zero matrix has no deviation and cannot be
 * quantised.
 */
const kSpread = 1e-3;

/** A matrix of an adapter, with values that `start` makes, or to be filled from codes. */
function weightOf(
  name: string,
  shape: readonly [number, number],
  bits: BinaryBits,
  { storage }: BinaryConfig,
  start: () => Tensor,
): BinaryWeight {
  if (storage === 'codes' && bits !== 32) return new StoredWeight(shape, bits, name);
  return new MasterWeight(
    unscoped(() => scope(() => noGrad(start))),
    bits,
    name,
  );
}

/** The two products [h, K] and [N, h] of an adapter on `path`. */
function pair(path: string, inputs: number, outputs: number, config: BinaryConfig, context: CreateContext): [BinaryWeight, BinaryWeight] {
  const { bits, dim } = config;
  const down = weightOf(`${path}: down`, [dim, inputs], bits, config, () =>
    startUniform(context, path, 'down', [dim, inputs], 1 / Math.sqrt(inputs)),
  );
  const up = weightOf(`${path}: up`, [outputs, dim], bits, config, () =>
    truncatedNormal([outputs, dim], { ...randomOf(context, path, 'up'), std: bits === 32 ? 0 : kSpread }),
  );
  return [down, up];
}

function create(target: Target, config: BinaryConfig, context: CreateContext): AdapterModule {
  const { path, layer } = target;
  if (config.storage === 'codes' && !context.loading)
    throw new ConfigError('binary: storage "codes" is what a file of a trained adapter holds; got it in attach, expected "master"');
  const options = { scale: config.scale, dropout: config.dropout, seed: context.seed, path };
  if (config.adapter === 'adaptformer') {
    const width = streamWidth('binary', target);
    return new BinaryAdaptFormer(...pair(path, width, width, config, context), options);
  }
  if (!(layer instanceof Linear))
    throw new ConfigError(`binary: adapter "lora" cannot adapt "${path}" (${layer.constructor.name}); it adapts linear layers`);
  return new BinaryLora(...pair(path, layer.inFeatures, layer.outFeatures, config, context), options);
}

/** The new head of one bit, where it is asked for. */
function* heads(layers: readonly Target[], _targets: readonly Target[], config: BinaryConfig, context: CreateContext): Iterable<Placement> {
  if (!config.bihead) return;
  const found = layers.filter(({ role, layer }) => role === 'head' && layer instanceof Linear);
  if (found.length !== 1)
    throw new ConfigError(`binary: bihead needs a model with one linear head; got ${found.map(({ path }) => path).join(', ') || 'none'}`);
  for (const { path, layer } of found as (Target & { layer: Linear })[]) {
    if (isSavedWhole(config, path))
      throw new ConfigError(`binary: bihead and modulesToSave both stand for "${path}"; expected one of the two`);
    const { outFeatures, inFeatures } = layer;
    const weight = weightOf(`${path}: head`, [outFeatures, inFeatures], 1, config, () =>
      startUniform(context, path, 'adapter_head', [outFeatures, inFeatures], 1 / Math.sqrt(inFeatures)),
    );
    yield { path, module: new BinaryHead(weight, layer) };
  }
}

/**
 * Adapters of 1, 2, 4 or 8 bits a weight, trained with the quantisation in the forward pass: Bi-AdaptFormer and Bi-LoRA of "Revisiting
 * the Parameter Efficiency of Adapters from the Perspective of Precision Redundancy". Saved as codes with mean and deviation of each
 * matrix; `form: 'native'` keeps the weights that train.
 *
 * ```ts
 * const tuned = await attach(model, { type: 'binary', bits: 1, dim: 32, scale: 10 });
 * ```
 */
export const binary = {
  name: 'binary',
  prefix: 'adapter_',
  peftType: 'BINARY',
  peft: peftBinary,
  defaults: binaryDefaults,
  check: checkBinary,
  startsAsIdentity: ({ bits, bihead }) => bits === 32 && !bihead,
  roles: ({ adapter }) => (adapter === 'adaptformer' ? ['block'] : ['attention.query', 'attention.value']),
  kinds: ['linear', 'other'],
  create,
  extras: heads,
  bringsHead: ({ bihead }) => bihead,
  portable: portableBinary,
} as const satisfies AdapterMethod<'binary', BinaryConfig>;
