/**
 * The keyword transformer: a second of audio as one token for each frame of cepstral coefficients, through post-norm blocks.
 * "Keyword Transformer: A Self-Attention Model for Keyword Spotting"; names as in the weights of KWT-1 published for Arm's keyword-transformer.
 */
import { z } from 'zod';
import { ShapeError } from '../errors.js';
import { type ForwardContext, inference } from '../nn/context.js';
import { Linear } from '../nn/linear.js';
import { Layer, ModuleList } from '../nn/module.js';
import { LayerNorm, normOfSum } from '../nn/norm.js';
import { sublayer } from '../nn/sublayer.js';
import { add } from '../ops/elementwise.js';
import { concat } from '../ops/join.js';
import type { Tensor } from '../tensor.js';
import { activationOf, count, flag, kMostLayers, readConfig } from './config.js';
import { type EncoderArchitecture, type EncoderInput, EncoderNetwork, type EncoderShape, type HeadOptions } from './encoder.js';
import { FcMlp } from './fc-mlp.js';
import {
  attendToAll,
  checkWidth,
  featuresOf,
  outputsOf,
  type PatchTask,
  patchTasks,
  readOut,
  readOutWidth,
  repeated,
} from './patch-encoder.js';
import type { Pooling } from './pooling.js';
import { runEncoder } from './run-encoder.js';

const keys = z.object({
  embed_dim: count,
  depth: count.max(kMostLayers),
  num_heads: count,
  mlp_dim: count,
  norm: z.literal('post').default('post'),
  layer_norm_eps: z.number().positive().default(1e-6),
  activation: z.string().default('gelu_tanh'),
  qkv_bias: flag.default(false),
  proj_bias: flag.default(true),
  input_frames: count,
  input_coeffs: count,
  /** 0: without a head. */
  num_classes: z.int().min(0),
});

export type KwtConfig = z.infer<typeof keys>;

class KwtAttention extends Layer {
  q: Layer;
  k: Layer;
  v: Layer;
  proj: Layer;
  readonly #heads: number;
  readonly #layer: number;

  constructor({ embed_dim: width, num_heads: heads, qkv_bias: bias, proj_bias }: KwtConfig, layer: number) {
    super('attention');
    checkWidth('embed_dim', width, 'num_heads', heads);
    this.q = new Linear(width, width, { bias, init: 'none', role: 'attention.query' });
    this.k = new Linear(width, width, { bias, init: 'none', role: 'attention.key' });
    this.v = new Linear(width, width, { bias, init: 'none', role: 'attention.value' });
    this.proj = new Linear(width, width, { bias: proj_bias, init: 'none', role: 'attention.output' });
    this.#heads = heads;
    this.#layer = layer;
  }

  /** x [B, T, D] to [B, T, D]. */
  override forward(x: Tensor, context: ForwardContext = inference): Tensor {
    const [q, k, v] = [this.q.forward(x, context), this.k.forward(x, context), this.v.forward(x, context)];
    return this.proj.forward(attendToAll(q, k, v, this.#heads, context, this.#layer), context);
  }
}

class KwtBlock extends Layer {
  attn: Layer;
  norm1: Layer;
  mlp: Layer;
  norm2: Layer;

  constructor(config: KwtConfig, layer: number) {
    super('block');
    const norm = { epsilon: config.layer_norm_eps, init: 'none' } as const;
    this.attn = new KwtAttention(config, layer);
    this.norm1 = new LayerNorm(config.embed_dim, norm);
    this.mlp = new FcMlp(config.embed_dim, config.mlp_dim, activationOf(config.activation));
    this.norm2 = new LayerNorm(config.embed_dim, norm);
  }

  /** x [B, T, D] to [B, T, D]. */
  override forward(x: Tensor, context: ForwardContext = inference): Tensor {
    const attend = sublayer('attention', { residual: x, input: x, context }, (input, inner) => this.attn.forward(input, inner));
    const { normed: attended } = normOfSum(this.norm1, x, attend, context);
    const fed = sublayer('mlp', { residual: attended, input: attended, context }, (input, inner) => this.mlp.forward(input, inner));
    return normOfSum(this.norm2, attended, fed, context).normed;
  }
}

export class KwtNetwork extends EncoderNetwork {
  readonly modality = 'audio';
  readonly task: PatchTask;
  readonly shape: EncoderShape;
  cls_token!: Tensor;
  pos_embed!: Tensor;
  patch_embed: Layer;
  readonly blocks: ModuleList<Layer>;
  /** Absent for embeddings. */
  head?: Layer;
  readonly #frames: number;
  readonly #coefficients: number;
  override readonly startable = ['head'];
  override readonly pooling?: Pooling | undefined;
  readonly #keepsHead: boolean;

  constructor(config: KwtConfig, task: PatchTask, head: HeadOptions) {
    super();
    this.task = task;
    this.#frames = config.input_frames;
    this.#coefficients = config.input_coeffs;
    this.pooling = head.pooling;
    this.patch_embed = new Linear(config.input_coeffs, config.embed_dim, { init: 'none' });
    this.blocks = new ModuleList(Array.from({ length: config.depth }, (_, i) => new KwtBlock(config, i)));
    const { labels, isPublished } = outputsOf(task, config.num_classes || undefined, head);
    const width = readOutWidth(config.embed_dim, head.pooling);
    if (labels !== undefined) this.head = new Linear(width, labels, { role: 'head', init: 'none' });
    this.#keepsHead = isPublished;
    this.shape = {
      hiddenSize: config.embed_dim,
      layers: config.depth,
      heads: config.num_heads,
      contextLength: config.input_frames + 1,
      example: [config.input_frames, config.input_coeffs],
      tokens: { special: 1, read: 1 },
    };
  }

  /** Features [B, T, M] of the published T and M to logits [B, L], values [B, K] or embeddings [B, D], by default of the class token. */
  override forward(input: EncoderInput, context: ForwardContext): Tensor {
    const features = featuresOf(input);
    const [batch = 0, frames, coefficients] = features.shape;
    if (features.rank !== 3 || frames !== this.#frames || coefficients !== this.#coefficients)
      throw new ShapeError(`forward: got features [${features.shape.join(', ')}], expected [B, ${this.#frames}, ${this.#coefficients}]`);
    const tokens = concat([repeated(this.held('cls_token', context), batch), this.patch_embed.forward(features, context)], 1);
    const hidden = runEncoder(this, this.blocks, add(tokens, this.held('pos_embed', context)), context);
    const answer = readOut(hidden, this.pooling);
    return this.head?.forward(answer, context) ?? answer;
  }

  override parameterShapes(): Record<string, readonly number[]> {
    return { cls_token: [1, 1, this.shape.hiddenSize], pos_embed: [1, this.shape.contextLength, this.shape.hiddenSize] };
  }

  /** Without the tables of the front end. */
  override sanitize<T>(weights: ReadonlyMap<string, T>): Map<string, T> {
    const read = (name: string): boolean => !name.startsWith('frontend.') && (this.#keepsHead || !name.startsWith('head.'));
    return new Map([...weights].filter(([name]) => read(name)));
  }
}

/** Reads the `config.json` of the published weights; throws `ConfigError` that names a missing or unsupported key. */
export const kwt: EncoderArchitecture = {
  modality: 'audio',
  tasks: patchTasks((config, task, head) => new KwtNetwork(readConfig(keys, config), task, head)),
};
