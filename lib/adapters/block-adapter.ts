import { ConfigError } from '../errors.js';
import { ownFormat } from '../io/own-format.js';
import { CausalLanguageModel } from '../models/causal-language-model.js';
import { EncoderNetwork } from '../models/encoder.js';
import { BatchNorm1d } from '../nn/batch-norm.js';
import { add } from '../ops/elementwise.js';
import type { Tensor } from '../tensor.js';
import type { AdapterMethod, CreateContext, Target } from './adapter.js';
import { pointsOf } from './around-config.js';
import { type BlockAdapterConfig, blockAdapterDefaults, checkBlockAdapter, hasResidual } from './block-adapter-config.js';
import { BranchStart, innerWidth } from './branch-start.js';
import { Conformer, Convpass, identityConvolution, type TokenGrid } from './convolution-branches.js';
import { trainedNorms } from './stream-norms.js';
import { AffineParameters, Bottleneck, type Branch, type BranchForm, SublayerBranches, streamWidth } from './sublayer-bottleneck.js';

const kName = 'block-adapter';

/** What a block adds to its stream, with the adapter a around the sub-layer. */
function formOf(config: BlockAdapterConfig): BranchForm {
  const residual = hasResidual(config);
  const plus = (x: Tensor, made: Tensor): Tensor => (residual ? add(made, x) : made);
  if (config.placement === 'sequential') {
    return (a, { input, next }) => {
      const y = next(input);
      return plus(y, a(y));
    };
  }
  if (config.placement === 'before') {
    return (a, { input, next }) => {
      const made = a(input);
      return add(next(plus(input, made)), made);
    };
  }
  return (a, { input, next }) => plus(input, add(next(input), a(input)));
}

/** Where the patches of the network are. Throws `ConfigError` for one without a grid of them. */
function gridOf({ network }: CreateContext): TokenGrid {
  const tokens = network instanceof EncoderNetwork ? network.shape.tokens : undefined;
  if (tokens?.rows !== undefined) return { special: tokens.special, rows: tokens.rows };
  throw new ConfigError(`${kName}: convolution "2d" needs patches on a grid; got ${network.constructor.name}, expected convolution "1d"`);
}

function branch(config: BlockAdapterConfig, width: number, path: string, context: CreateContext): Branch {
  const { block, convolution, kernelSize, dropout } = config;
  const inner = innerWidth(kName, config, width);
  const start = new BranchStart(context, path, config.init);
  const { dtype } = context;
  if (block === 'bottleneck') {
    const [down, up] = [start.linear('down', 'first', [inner, width]), start.linear('up', 'last', [width, inner])];
    return new Bottleneck(down, up, { activation: 'gelu', dropout: dropout ?? 0 });
  }
  if (block === 'convpass') {
    const [down, up] = [start.linear('down', 'first', [inner, width]), start.linear('up', 'last', [width, inner])];
    const taps = convolution === '2d' ? [3, 3] : [3];
    const conv = convolution === 'none' ? undefined : new AffineParameters(identityConvolution(inner, taps, dtype), start.zeros(inner));
    return new Convpass({ down, up, ...(conv && { conv }) }, dropout ?? 0.1, convolution === '2d' ? gridOf(context) : undefined);
  }
  const depthwise = { bound: 1 / Math.sqrt(kernelSize), shape: [inner, 1, kernelSize] };
  return new Conformer(
    {
      pointwise1: start.convolution('pointwise1', 'first', [2 * inner, width]),
      depthwise: new AffineParameters(
        start.uniform('depthwise', depthwise.shape, depthwise.bound),
        start.uniform('depthwise.bias', [inner], depthwise.bound),
      ),
      norm: new BatchNorm1d(inner, { dtype }),
      pointwise2: start.convolution('pointwise2', 'last', [width, inner]),
    },
    dropout ?? 0,
  );
}

function create(target: Target, config: BlockAdapterConfig, context: CreateContext): SublayerBranches {
  const { block, convolution } = config;
  const mixes = block === 'conformer' || (block === 'convpass' && convolution !== 'none');
  if (mixes && context.network instanceof CausalLanguageModel)
    throw new ConfigError(
      `${kName}: "${block}" mixes tokens with later ones, which a language model is to predict; expected an encoder, or block "bottleneck"`,
    );
  const width = streamWidth(kName, target);
  const branches = Object.fromEntries(
    pointsOf(config).map((point) => [point, branch(config, width, `${target.path}.adapter_${point}`, context)]),
  );
  return new SublayerBranches(branches, formOf(config), context.seed, target.path);
}

/**
 * Adapters around the sub-layers of every block: in parallel or in sequence, as bottlenecks or convolutions, with the norms trained too. Around the MLP alone they are
 * those of Pfeiffer, around both those of Houlsby.
 * "Parameter-Efficient Transfer Learning of Audio Spectrogram Transformers".
 *
 * ```ts
 * const tuned = await attach(model, { type: 'block-adapter', placement: 'parallel', reduction: 64 });
 * ```
 */
export const blockAdapter = {
  name: kName,
  prefix: 'adapter_',
  peftType: 'BLOCK_ADAPTER',
  peft: ownFormat(blockAdapterDefaults),
  defaults: blockAdapterDefaults,
  check: checkBlockAdapter,
  startsAsIdentity: (config) => config.init !== 'trunc_normal_0.02' && hasResidual(config) === (config.placement !== 'parallel'),
  roles: ['block'],
  kinds: ['other'],
  create,
  extras: (layers, blocks, config, context) =>
    config.norms ? trainedNorms(layers, blocks, config, context, pointsOf(config), (block) => streamWidth(kName, block)) : [],
} as const satisfies AdapterMethod<'block-adapter', BlockAdapterConfig>;
