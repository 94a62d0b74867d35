import { AdapterError, ConfigError } from '../errors.js';
import { peftMosa } from '../io/peft-mosa.js';
import { parameter } from '../nn/init.js';
import { Linear } from '../nn/linear.js';
import type { Module } from '../nn/module.js';
import { ones } from '../ops/create.js';
import type { Tensor } from '../tensor.js';
import type {
  AdapterForm,
  AdapterMethod,
  AdapterModule,
  CommonConfig,
  CreateContext,
  Placement,
  PortableAdapter,
  Target,
} from './adapter.js';
import { namedTensorsOf } from './adapter-table.js';
import { consistencyLoss, kComparedBlocks } from './consistency.js';
import { requireEntries } from './expert-values.js';
import { lora } from './lora.js';
import { plainLoraConfig } from './lora-config.js';
import { startLinear } from './lora-init.js';
import { LoraLinear } from './lora-linear.js';
import { MosaBottleneck, MosaLinear } from './mosa-branches.js';
import { checkMosa, type MosaConfig, mosaDefaults, mosaRoles, settingsOf, sublayerStyles } from './mosa-config.js';
import { type MaybeSplit, SplitAffine } from './split-affine.js';
import {
  AffineParameters,
  Bottleneck,
  type BottleneckOptions,
  bottleneckStart,
  SublayerBranches,
  streamWidth,
} from './sublayer-bottleneck.js';

type Side = 'down' | 'up';

/** Splits a product, unless all experts share it. `path` is that of the tensors. */
function split(side: Side, product: AffineParameters, path: string, config: MosaConfig, { seed, stream }: CreateContext): MaybeSplit {
  if (config.share === side) return product;
  const { experts, merge, biasMode, skipInactive } = config;
  const options = {
    experts,
    merge,
    biasMode,
    skipInactive,
    seed,
    stream: (name: string) => stream(path, name),
    keepsStart: side === 'down',
  };
  return new SplitAffine(product, options);
}

/** Throws `ConfigError`, before any tensor is made, where a product [outputs, inputs] has fewer entries than experts that own some. */
function requireSplittable(side: Side, path: string, [outputs, inputs]: readonly [number, number], config: MosaConfig): void {
  const { experts, share, biasMode, style } = config;
  if (experts === 1 || share === side) return;
  requireEntries(`${path}.weight`, outputs * inputs, experts);
  if (style !== 'lora' && biasMode === 'split') requireEntries(`${path}.bias`, outputs, experts);
}

function create(target: Target, config: MosaConfig, context: CreateContext): AdapterModule {
  return config.style === 'lora' ? createLowRank(target, config, context) : createBranches(target, config, config.style, context);
}

function createLowRank({ path, layer }: Target, config: MosaConfig, context: CreateContext): AdapterModule {
  if (!(layer instanceof Linear))
    throw new ConfigError(`mosa: cannot adapt "${path}" with style "lora"; got ${layer.constructor.name}, expected a linear layer`);
  const { width, scale, dropout } = settingsOf(config);
  requireSplittable('down', `${path}.lora_A`, [width, layer.inFeatures], config);
  requireSplittable('up', `${path}.lora_B`, [layer.outFeatures, width], config);
  const { a, b } = startLinear(path, layer.inFeatures, layer.outFeatures, width, true, false, context);
  const options = { scale: scale as number, dropout, seed: context.seed, path };
  if (config.experts === 1) return new LoraLinear(a, b, undefined, options);
  const down = split('down', new AffineParameters(a), `${path}.lora_A`, config, context);
  const up = split('up', new AffineParameters(b), `${path}.lora_B`, config, context);
  return new MosaLinear(down, up, config.experts, options);
}

function createBranches(target: Target, config: MosaConfig, style: keyof typeof sublayerStyles, context: CreateContext): AdapterModule {
  const { path } = target;
  const { points, source, ...form } = sublayerStyles[style];
  const { width, scale, dropout } = settingsOf(config);
  const stream = streamWidth('mosa', target);
  const optionsOf = (): BottleneckOptions => ({
    ...form,
    scale: scale === 'learned' ? parameter(() => ones([1], { dtype: context.dtype })) : scale,
    dropout,
  });
  for (const point of points) {
    requireSplittable('down', `${path}.adapter_${point}.down`, [width, stream], config);
    requireSplittable('up', `${path}.adapter_${point}.up`, [stream, width], config);
  }
  const branches = points.map((point) => {
    const own = `${path}.adapter_${point}`;
    const { down, up } = bottleneckStart(stream, width, context, own);
    if (config.experts === 1) return [point, new Bottleneck(down, up, optionsOf())] as const;
    const shape = { width: stream, dtype: context.dtype };
    const products = [split('down', down, `${own}.down`, config, context), split('up', up, `${own}.up`, config, context)] as const;
    return [point, new MosaBottleneck(...products, config.experts, shape, optionsOf())] as const;
  });
  return new SublayerBranches(Object.fromEntries(branches), source, context.seed, path);
}

/** The tensors of a module with its experts merged, by the end of their name. */
function* mergedTensors(module: Module, path: string): Iterable<readonly [string, Tensor]> {
  const own: Iterable<readonly [string, unknown]> =
    module instanceof SplitAffine ? Object.entries(module.merged()) : module.ownParameters();
  for (const [name, value] of own) yield [`${path}.${name}`, value as Tensor];
  if (module instanceof SplitAffine) return;
  for (const [name, child] of module.namedChildren()) yield* mergedTensors(child, `${path}.${name}`);
}

/** As trained, or merged into the plain adapter of the style, which is MoSA of one expert, and plain LoRA for `lora`. */
function portable(config: MosaConfig, placements: readonly Placement[], form: AdapterForm): PortableAdapter<CommonConfig> {
  const isPlain = form === 'published' || (form === 'lora' && config.style === 'lora');
  if (!isPlain && form !== 'native')
    throw new AdapterError(
      `save: an adapter of "mosa" with style "${config.style}" has no form "${form}"; expected "published" or "native"`,
    );
  if (form === 'native')
    return {
      config,
      tensors: placements.flatMap(namedTensorsOf),
    };
  const tensors = placements.flatMap(({ path, module }) => [...mergedTensors(module, path)]);
  if (config.style !== 'lora') return { config: { ...config, experts: 1 } as MosaConfig, tensors };
  const { width, scale, dropout } = settingsOf(config);
  return { method: lora, config: plainLoraConfig(config, { rank: width, alpha: (scale as number) * width, dropout }), tensors };
}

/** The distance of hidden states is that of six blocks, where there are as many. */
function warnOfFewBlocks(layers: readonly Target[], { consistency }: MosaConfig): void {
  const blocks = layers.filter(({ role }) => role === 'block').length;
  if (!consistency?.deep || blocks >= kComparedBlocks) return;
  process.emitWarning(
    `mosa: consistency.deep compares the first ${kComparedBlocks} blocks; got a network of ${blocks}, which are all compared`,
    'LorikeetWarning',
  );
}

/**
 * MoSA: the entries of an adapter are split among n experts, of which each pass in training takes one at random; out of training they are
 * merged, at the size of one adapter. "MoSA: Mixture of Sparse Adapters for Visual Efficient Tuning".
 *
 * ```ts
 * const tuned = await attach(model, { type: 'mosa', style: 'adaptformer', experts: 4, bottleneckSize: 16 });
 * ```
 */
export const mosa = {
  name: 'mosa',
  prefix: 'adapter_',
  peftType: 'MOSA',
  peft: peftMosa,
  defaults: mosaDefaults,
  check: checkMosa,
  roles: mosaRoles,
  create,
  extras: (layers, _targets, config, { loading }) => {
    if (!loading) warnOfFewBlocks(layers, config);
    return [];
  },
  portable,
  trainingLoss: ({ consistency }) => {
    const { kl = 1, ce2 = 0, deep = 0 } = consistency ?? { kl: 0 };
    return kl === 0 && ce2 === 0 && deep === 0 ? undefined : consistencyLoss({ kl, ce2, deep });
  },
} as const satisfies AdapterMethod<'mosa', MosaConfig>;
