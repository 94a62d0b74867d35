/**
 * Vision transformers: images as sequences of patches, through pre-norm blocks.
 * "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale"; names and behaviour as in transformers' ViTForImageClassification.
 */
import { z } from 'zod';
import { ConfigError } from '../errors.js';
import { type ForwardContext, inference } from '../nn/context.js';
import { Dropout } from '../nn/dropout.js';
import { parameter } from '../nn/init.js';
import { Linear } from '../nn/linear.js';
import { Layer, Module } from '../nn/module.js';
import { PatchProjection, type PatchSize } from '../nn/patch-projection.js';
import { normal } from '../ops/create.js';
import { add } from '../ops/elementwise.js';
import { concat } from '../ops/join.js';
import { nextDraw } from '../random.js';
import type { Tensor } from '../tensor.js';
import { count, readConfig } from './config.js';
import { type EncoderArchitecture, type EncoderInput, EncoderNetwork, type EncoderShape, type HeadOptions } from './encoder.js';
import {
  namedLabels,
  outputsOf,
  type PatchTask,
  patchEncoderKeys,
  patchTasks,
  pixelsOf,
  readOut,
  readOutWidth,
  repeated,
} from './patch-encoder.js';
import type { Pooling } from './pooling.js';
import { type Grid, resizePositions } from './position-grid.js';
import { type Init, newerVitName, VitEncoder } from './vit-block.js';

const size = z.union([count, z.tuple([count, count])]);

const keys = z.object({
  ...patchEncoderKeys,
  image_size: size.default(224),
  patch_size: size.default(16),
  num_channels: count.default(3),
});

export type VitConfig = z.infer<typeof keys>;

/** A size given once for both axes, or for each. */
export const both = (value: number | [number, number]): PatchSize => (typeof value === 'number' ? [value, value] : value);

/** The grid of patches in an image of the published size. Throws `ConfigError` for an image that is smaller than a patch. */
export function gridOf(projection: PatchProjection, image: PatchSize): Grid {
  if (image[0] < projection.patch[0] || image[1] < projection.patch[1])
    throw new ConfigError(`model config: an image is smaller than a patch; got ${image.join(' x ')} and ${projection.patch.join(' x ')}`);
  return projection.grid(...image);
}

class VitPatches extends Module {
  projection: PatchProjection;

  constructor(config: VitConfig, init: Init) {
    super();
    this.projection = new PatchProjection(config.num_channels, config.hidden_size, both(config.patch_size), { init });
  }
}

class VitEmbeddings extends Layer {
  cls_token!: Tensor;
  position_embeddings!: Tensor;
  readonly patch_embeddings: VitPatches;
  /** The bare projection, whatever stands for its layer. */
  readonly #geometry: PatchProjection;
  readonly #grid: Grid;
  readonly #width: number;
  readonly #dropout: Dropout;

  constructor(config: VitConfig, init: Init) {
    super();
    this.patch_embeddings = new VitPatches(config, init);
    this.#geometry = this.patch_embeddings.projection;
    this.#grid = gridOf(this.#geometry, both(config.image_size));
    this.#width = config.hidden_size;
    this.#dropout = new Dropout(config.hidden_dropout_prob);
    if (init === 'none') return;
    const { cls_token, position_embeddings } = this.parameterShapes();
    this.cls_token = smallNormal(cls_token);
    this.position_embeddings = smallNormal(position_embeddings);
  }

  /** Rows of patches in an image of the published size. */
  get rows(): number {
    return this.#grid[0];
  }

  /** Tokens of an image of the published size, the class token included. */
  get tokens(): number {
    return this.#grid[0] * this.#grid[1] + 1;
  }

  /** Images [B, C, H, W] to [B, 1 + patches, D]. Positions are resampled where the image has another size than the published one. */
  override forward(images: Tensor, context: ForwardContext = inference): Tensor {
    const { projection } = this.patch_embeddings;
    const patches = projection.forward(images, context);
    const grid = this.#geometry.grid(images.shape[2] ?? 0, images.shape[3] ?? 0);
    const tokens = concat([repeated(this.cls_token, images.shape[0] ?? 0), patches], 1);
    const placed = add(tokens, resizePositions(this.position_embeddings, 1, this.#grid, grid, 'cubic'));
    return this.#dropout.forward(placed, context);
  }

  override parameterShapes(): { cls_token: readonly number[]; position_embeddings: readonly number[] } {
    return { cls_token: [1, 1, this.#width], position_embeddings: [1, this.tokens, this.#width] };
  }
}

const smallNormal = (shape: readonly number[]): Tensor => parameter(() => normal(shape, { std: 0.02, ...nextDraw() }));

export class VitNetwork extends EncoderNetwork {
  readonly modality = 'image';
  readonly task: PatchTask;
  readonly shape: EncoderShape;
  readonly vit: VitEncoder<VitEmbeddings>;
  /** Absent for embeddings. */
  classifier?: Layer;
  override readonly startable = ['classifier'];
  override readonly initialDeviation: number;
  override readonly pooling?: Pooling | undefined;
  readonly #keepsHead: boolean;

  /** `init` `random` makes a network to be trained from nothing; its draws are those of the environment (see `manualSeed`). */
  constructor(config: VitConfig, task: PatchTask, head: HeadOptions = {}, init: Init = 'none') {
    super();
    this.task = task;
    this.pooling = head.pooling;
    this.initialDeviation = config.initializer_range;
    const width = readOutWidth(config.hidden_size, head.pooling);
    this.vit = new VitEncoder(config, new VitEmbeddings(config, init), init);
    const { labels, isPublished } = outputsOf(task, namedLabels(config), head);
    if (labels !== undefined) this.classifier = new Linear(width, labels, { role: 'head', init });
    this.#keepsHead = isPublished;
    this.shape = {
      hiddenSize: config.hidden_size,
      layers: config.num_hidden_layers,
      heads: config.num_attention_heads,
      contextLength: this.vit.embeddings.tokens,
      example: [config.num_channels, ...both(config.image_size)],
      tokens: { special: 1, read: 1, rows: this.vit.embeddings.rows },
    };
  }

  /** Pixels [B, C, H, W] to logits [B, L], values [B, K] or embeddings [B, D], by default of the class token, after the last norm. */
  override forward(input: EncoderInput, context: ForwardContext): Tensor {
    const answer = readOut(this.vit.forward(pixelsOf(input), context, this), this.pooling);
    return this.classifier?.forward(answer, context) ?? answer;
  }

  newerName(path: string): string {
    return newerVitName(path);
  }

  override sanitize<T>(weights: ReadonlyMap<string, T>): Map<string, T> {
    const named = [...weights].map(([name, value]) => [/^(vit|classifier|decoder)\./.test(name) ? name : `vit.${name}`, value] as const);
    const unread = /^(vit\.pooler\.|vit\.embeddings\.mask_token$|decoder\.)/;
    return new Map(named.filter(([name]) => !unread.test(name) && (this.#keepsHead || !name.startsWith('classifier.'))));
  }
}

/** A network of random weights, to be trained from nothing, for experiments. Throws `ConfigError` as {@link vit} does. */
export const newVit = (config: unknown, task: PatchTask, head: HeadOptions = {}): VitNetwork =>
  new VitNetwork(readConfig(keys, config), task, head, 'random');

/** Reads a published `config.json`; throws `ConfigError` that names a missing or unsupported key. */
export const vit: EncoderArchitecture = {
  modality: 'image',
  tasks: patchTasks((config, task, head) => new VitNetwork(readConfig(keys, config), task, head)),
};
