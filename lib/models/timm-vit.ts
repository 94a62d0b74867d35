/**
 * Vision transformers by timm's names: the network of `vit.ts` with one matrix for queries, keys and values.
 * "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale"; names and behaviour as in timm's VisionTransformer.
 */
import { z } from 'zod';
import { ConfigError } from '../errors.js';
import { type ForwardContext, inference } from '../nn/context.js';
import { Linear } from '../nn/linear.js';
import { Layer, Module, ModuleList } from '../nn/module.js';
import { LayerNorm, normOfSum } from '../nn/norm.js';
import { PatchProjection } from '../nn/patch-projection.js';
import { sublayer } from '../nn/sublayer.js';
import { add, gelu } from '../ops/elementwise.js';
import { concat, split } from '../ops/join.js';
import { narrow } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';
import { count, flag, kMostLayers, readConfig } from './config.js';
import { type EncoderArchitecture, type EncoderInput, EncoderNetwork, type EncoderShape, type HeadOptions } from './encoder.js';
import { FcMlp } from './fc-mlp.js';
import {
  attendToAll,
  checkWidth,
  outputsOf,
  type PatchTask,
  patchTasks,
  pixelsOf,
  readOut,
  readOutWidth,
  repeated,
} from './patch-encoder.js';
import { modesOf, type Pooling } from './pooling.js';
import { type Grid, resizePositions } from './position-grid.js';
import { runEncoder } from './run-encoder.js';
import { both, gridOf } from './vit.js';

const size = z.union([count, z.tuple([count, count])]);

/** Arguments of the network, as timm spells them; those that are absent follow from the name of the architecture. */
const keys = z.object({
  img_size: size,
  patch_size: size,
  in_chans: count.default(3),
  num_classes: z.int().min(0).default(1000),
  embed_dim: count,
  depth: count.max(kMostLayers),
  num_heads: count,
  mlp_ratio: z.number().positive().default(4),
  qkv_bias: flag.default(true),
  global_pool: z.enum(['token', 'avg']).default('token'),
});

export type TimmVitConfig = z.infer<typeof keys>;

/** Width, depth and heads by the word in the name of an architecture. */
const sizes: Readonly<Record<string, object>> = {
  tiny: { embed_dim: 192, depth: 12, num_heads: 3 },
  small: { embed_dim: 384, depth: 12, num_heads: 6 },
  base: { embed_dim: 768, depth: 12, num_heads: 12 },
  large: { embed_dim: 1024, depth: 24, num_heads: 16 },
};

/** Arguments of timm that change the network in ways that are not computed here, and the value that leaves it as it is. */
const plain: Readonly<Record<string, unknown>> = {
  class_token: true,
  reg_tokens: 0,
  pre_norm: false,
  qk_norm: false,
  init_values: null,
  no_embed_class: false,
};

const objectOf = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};

/** The arguments of a network from timm's `config.json`: what the architecture's name says, changed by its own keys and by `model_args`. */
function readTimm(raw: unknown): TimmVitConfig {
  const file = objectOf(raw);
  const [, word = '', patch, image] = /^vit_(\w+)_patch(\d+)_(\d+)(\..+)?$/.exec(String(file.architecture ?? '')) ?? [];
  const named = Object.hasOwn(sizes, word) ? { ...sizes[word], patch_size: Number(patch), img_size: Number(image) } : {};
  if (file.architecture !== undefined && Object.keys(named).length === 0) {
    const known = Object.keys(sizes).join(', ');
    throw new ConfigError(
      `model config: unknown "architecture" ${JSON.stringify(file.architecture)}; expected vit_SIZE_patchP_IMAGE with a size of ${known}`,
    );
  }
  const { architecture, pretrained_cfg, model_args, model_type, num_features, ...own } = file;
  const wanted = { ...named, ...own, ...objectOf(model_args) };
  for (const [key, value] of Object.entries(plain)) {
    const given = wanted[key as keyof typeof wanted] ?? value;
    if (given !== value)
      throw new ConfigError(`model config: "${key}" ${JSON.stringify(given)} is not supported; expected ${JSON.stringify(value)}`);
  }
  return readConfig(keys, wanted);
}

class TimmPatches extends Module {
  proj: PatchProjection;

  constructor(config: TimmVitConfig) {
    super();
    this.proj = new PatchProjection(config.in_chans, config.embed_dim, both(config.patch_size), { init: 'none' });
  }
}

class TimmAttention extends Layer {
  qkv: Layer;
  proj: Layer;
  readonly #heads: number;
  readonly #layer: number;

  constructor({ embed_dim: width, num_heads: heads, qkv_bias: bias }: TimmVitConfig, layer: number) {
    super('attention');
    checkWidth('embed_dim', width, 'num_heads', heads);
    this.qkv = new Linear(width, 3 * width, { bias, init: 'none', role: 'attention.qkv' });
    this.proj = new Linear(width, width, { init: 'none', role: 'attention.output' });
    this.#heads = heads;
    this.#layer = layer;
  }

  /** x [B, T, D] to [B, T, D]. */
  override forward(x: Tensor, context: ForwardContext = inference): Tensor {
    const [q, k, v] = split(this.qkv.forward(x, context), x.shape[2] ?? 0, 2) as [Tensor, Tensor, Tensor];
    return this.proj.forward(attendToAll(q, k, v, this.#heads, context, this.#layer), context);
  }
}

const norm = ({ embed_dim: width }: TimmVitConfig): LayerNorm => new LayerNorm(width, { epsilon: 1e-6, init: 'none' });

class TimmBlock extends Layer {
  norm1: Layer;
  attn: Layer;
  norm2: Layer;
  mlp: Layer;

  constructor(config: TimmVitConfig, layer: number) {
    super('block');
    this.norm1 = norm(config);
    this.attn = new TimmAttention(config, layer);
    this.norm2 = norm(config);
    this.mlp = new FcMlp(config.embed_dim, Math.trunc(config.embed_dim * config.mlp_ratio), gelu);
  }

  /** x [B, T, D] to [B, T, D]. */
  override forward(x: Tensor, context: ForwardContext = inference): Tensor {
    const before = this.norm1.forward(x, context);
    const attended = sublayer('attention', { residual: x, input: before, context }, (input, inner) => this.attn.forward(input, inner));
    const { sum, normed } = normOfSum(this.norm2, x, attended, context);
    return add(
      sum,
      sublayer('mlp', { residual: sum, input: normed, context }, (input, inner) => this.mlp.forward(input, inner)),
    );
  }
}

export class TimmVitNetwork extends EncoderNetwork {
  readonly modality = 'image';
  readonly task: PatchTask;
  readonly shape: EncoderShape;
  cls_token!: Tensor;
  pos_embed!: Tensor;
  readonly patch_embed: TimmPatches;
  readonly blocks: ModuleList<Layer>;
  /** Before the class token is read. */
  norm?: Layer;
  /** After the mean of the patches. */
  fc_norm?: Layer;
  /** Absent for embeddings. */
  head?: Layer;
  /** The bare projection, whatever stands for its layer. */
  readonly #geometry: PatchProjection;
  readonly #grid: Grid;
  override readonly startable = ['head'];
  override readonly pooling?: Pooling | undefined;
  readonly #readsPatches: boolean;
  readonly #keepsHead: boolean;

  constructor(config: TimmVitConfig, task: PatchTask, head: HeadOptions) {
    super();
    this.task = task;
    this.patch_embed = new TimmPatches(config);
    this.blocks = new ModuleList(Array.from({ length: config.depth }, (_, i) => new TimmBlock(config, i)));
    const averaged = config.global_pool === 'avg';
    if (averaged) this.fc_norm = norm(config);
    else this.norm = norm(config);
    this.pooling = head.pooling ?? (averaged ? { mode: 'mean' } : undefined);
    this.#readsPatches = this.pooling !== undefined && !modesOf(this.pooling).includes('cls');
    const width = readOutWidth(config.embed_dim, this.pooling);
    const { labels, isPublished } = outputsOf(task, config.num_classes || undefined, head);
    if (labels !== undefined) this.head = new Linear(width, labels, { role: 'head', init: 'none' });
    this.#keepsHead = isPublished;
    this.#geometry = this.patch_embed.proj;
    this.#grid = gridOf(this.#geometry, both(config.img_size));
    this.shape = {
      hiddenSize: config.embed_dim,
      layers: config.depth,
      heads: config.num_heads,
      contextLength: this.#grid[0] * this.#grid[1] + 1,
      example: [config.in_chans, ...both(config.img_size)],
      tokens: { special: 1, read: 1, unpooled: this.#readsPatches, rows: this.#grid[0] },
    };
  }

  /** Pixels [B, C, H, W] to logits [B, L], values [B, K] or embeddings [B, D]. Pooling but of the class token is over the patches alone. */
  override forward(input: EncoderInput, context: ForwardContext): Tensor {
    const images = pixelsOf(input);
    const { proj } = this.patch_embed;
    const patches = proj.forward(images, context);
    const grid = this.#geometry.grid(images.shape[2] ?? 0, images.shape[3] ?? 0);
    const tokens = concat([repeated(this.held('cls_token', context), images.shape[0] ?? 0), patches], 1);
    const placed = add(tokens, resizePositions(this.held('pos_embed', context), 1, this.#grid, grid, 'smooth'));
    const stream = runEncoder(this, this.blocks, placed, context);
    const hidden = this.norm?.forward(stream, context) ?? stream;
    const one = readOut(this.#readsPatches ? narrow(hidden, 1, 1, (hidden.shape[1] ?? 1) - 1) : hidden, this.pooling);
    const answer = this.fc_norm?.forward(one, context) ?? one;
    return this.head?.forward(answer, context) ?? answer;
  }

  override parameterShapes(): Record<string, readonly number[]> {
    return { cls_token: [1, 1, this.shape.hiddenSize], pos_embed: [1, this.shape.contextLength, this.shape.hiddenSize] };
  }

  override sanitize<T>(weights: ReadonlyMap<string, T>): Map<string, T> {
    return new Map([...weights].filter(([name]) => this.#keepsHead || !name.startsWith('head.')));
  }
}

/** Reads timm's `config.json`; throws `ConfigError` that names a missing or unsupported key. */
export const timmVit: EncoderArchitecture = {
  modality: 'image',
  tasks: patchTasks((config, task, head) => new TimmVitNetwork(readTimm(config), task, head)),
};
