/**
 * The audio spectrogram transformer: a spectrogram as overlapping patches, through the blocks of ViT.
 * "AST: Audio Spectrogram Transformer"; names and behaviour as in transformers' ASTForAudioClassification.
 */
import { z } from 'zod';
import { ConfigError, ShapeError } from '../errors.js';
import { type ForwardContext, inference } from '../nn/context.js';
import { Dropout } from '../nn/dropout.js';
import { Linear } from '../nn/linear.js';
import { Layer, Module } from '../nn/module.js';
import { LayerNorm } from '../nn/norm.js';
import { PatchProjection } from '../nn/patch-projection.js';
import { add } from '../ops/elementwise.js';
import { concat } from '../ops/join.js';
import { mean } from '../ops/reduce.js';
import { narrow, transpose, unsqueeze } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';
import { count, readConfig } from './config.js';
import {
  type EncoderArchitecture,
  type EncoderInput,
  EncoderNetwork,
  type EncoderShape,
  type HeadOptions,
  kPositions,
  type PositionsOfLength,
} from './encoder.js';
import {
  featuresOf,
  namedLabels,
  outputsOf,
  type PatchTask,
  patchEncoderKeys,
  patchTasks,
  readOut,
  readOutWidth,
  repeated,
} from './patch-encoder.js';
import type { Pooling } from './pooling.js';
import { type Grid, resizePositions } from './position-grid.js';
import { newerVitName, VitEncoder } from './vit-block.js';

const keys = z.object({
  ...patchEncoderKeys,
  patch_size: count.default(16),
  frequency_stride: count.default(10),
  time_stride: count.default(10),
  max_length: count.default(1024),
  num_mel_bins: count.default(128),
});

export type AstConfig = z.infer<typeof keys>;

class AstPatches extends Module {
  projection: PatchProjection;

  constructor({ hidden_size: width, patch_size: patch, frequency_stride, time_stride }: AstConfig) {
    super();
    this.projection = new PatchProjection(1, width, [patch, patch], { stride: [frequency_stride, time_stride], init: 'none' });
  }
}

class AstEmbeddings extends Layer {
  cls_token!: Tensor;
  distillation_token!: Tensor;
  position_embeddings!: Tensor;
  readonly patch_embeddings: AstPatches;
  readonly #config: AstConfig;
  /** The bare projection, whatever stands for its layer. */
  readonly #geometry: PatchProjection;
  readonly #grid: Grid;
  readonly #positions: PositionsOfLength;
  readonly #dropout: Dropout;

  constructor(config: AstConfig, positions: PositionsOfLength) {
    super();
    const { patch_size: patch, num_mel_bins: bins, max_length: length } = config;
    if (Math.min(bins, length) < patch)
      throw new ConfigError(
        `model config: a spectrogram is smaller than a patch; got ${bins} bins of ${length} frames, expected at least ${patch} of each`,
      );
    this.patch_embeddings = new AstPatches(config);
    this.#config = config;
    this.#geometry = this.patch_embeddings.projection;
    this.#grid = this.#geometry.grid(bins, length);
    this.#positions = positions;
    this.#dropout = new Dropout(config.hidden_dropout_prob);
  }

  /** Rows of patches, from low to high frequencies. */
  get rows(): number {
    return this.#grid[0];
  }

  /** Tokens of a spectrogram of the published length, the two special ones included. */
  get tokens(): number {
    return this.#grid[0] * this.#grid[1] + 2;
  }

  /** Spectrograms [B, T, M] to [B, 2 + patches, D]: patches from low to high frequencies, and of each row from early to late. */
  override forward(features: Tensor, context: ForwardContext = inference): Tensor {
    const [batch = 0, frames = 0, bins = 0] = features.shape;
    if (features.rank !== 3 || bins !== this.#config.num_mel_bins)
      throw new ShapeError(`forward: got features [${features.shape.join(', ')}], expected [B, T, ${this.#config.num_mel_bins}]`);
    const { projection } = this.patch_embeddings;
    const patches = projection.forward(unsqueeze(transpose(features), 1), context);
    const tokens = concat([repeated(this.cls_token, batch), repeated(this.distillation_token, batch), patches], 1);
    const grid = this.#geometry.grid(bins, frames);
    const isPublished = grid[1] === this.#grid[1];
    if (!isPublished && this.#positions === 'zero') return this.#dropout.forward(tokens, context);
    return this.#dropout.forward(add(tokens, resizePositions(this.position_embeddings, 2, this.#grid, grid, 'middle')), context);
  }

  override parameterShapes(): Record<string, readonly number[]> {
    const width = this.#config.hidden_size;
    return { cls_token: [1, 1, width], distillation_token: [1, 1, width], position_embeddings: [1, this.tokens, width] };
  }
}

class AstHead extends Layer {
  layernorm: Layer;
  dense: Layer;

  constructor(width: number, labels: number, epsilon: number) {
    super();
    this.layernorm = new LayerNorm(width, { epsilon, init: 'none' });
    this.dense = new Linear(width, labels, { role: 'head', init: 'none' });
  }

  /** x [B, D] to [B, L]. */
  override forward(x: Tensor, context: ForwardContext = inference): Tensor {
    return this.dense.forward(this.layernorm.forward(x, context), context);
  }
}

export class AstNetwork extends EncoderNetwork {
  readonly modality = 'audio';
  readonly task: PatchTask;
  readonly shape: EncoderShape;
  readonly audio_spectrogram_transformer: VitEncoder<AstEmbeddings>;
  /** Absent for embeddings. */
  classifier?: Layer;
  override readonly startable = ['classifier'];
  override readonly initialDeviation: number;
  override readonly pooling?: Pooling | undefined;
  override readonly positions: PositionsOfLength;
  readonly #keepsHead: boolean;

  constructor(config: AstConfig, task: PatchTask, head: HeadOptions) {
    super();
    const positions = kPositions.find((name) => name === (head.positions ?? 'resized'));
    if (positions === undefined)
      throw new ConfigError(`model head: unknown "positions" "${head.positions}"; known are ${kPositions.join(', ')}`);
    this.task = task;
    this.pooling = head.pooling;
    this.initialDeviation = config.initializer_range;
    this.positions = positions;
    this.audio_spectrogram_transformer = new VitEncoder(config, new AstEmbeddings(config, positions), 'none');
    const { labels, isPublished } = outputsOf(task, namedLabels(config), head);
    const width = readOutWidth(config.hidden_size, head.pooling);
    if (labels !== undefined) this.classifier = new AstHead(width, labels, config.layer_norm_eps);
    this.#keepsHead = isPublished;
    this.shape = {
      hiddenSize: config.hidden_size,
      layers: config.num_hidden_layers,
      heads: config.num_attention_heads,
      contextLength: this.audio_spectrogram_transformer.embeddings.tokens,
      example: [config.max_length, config.num_mel_bins],
      tokens: { special: 2, read: head.pooling === undefined ? 2 : 1, rows: this.audio_spectrogram_transformer.embeddings.rows },
    };
  }

  /** Spectrograms [B, T, M] to logits [B, L], values [B, K] or embeddings [B, D]; by default the mean of the two special tokens is read, after the last norm. */
  override forward(input: EncoderInput, context: ForwardContext): Tensor {
    const hidden = this.audio_spectrogram_transformer.forward(featuresOf(input), context, this);
    const answer = this.pooling === undefined ? mean(narrow(hidden, 1, 0, 2), 1) : readOut(hidden, this.pooling);
    return this.classifier?.forward(answer, context) ?? answer;
  }

  newerName(path: string): string {
    return newerVitName(path);
  }

  override sanitize<T>(weights: ReadonlyMap<string, T>): Map<string, T> {
    const prefix = 'audio_spectrogram_transformer.';
    const named = [...weights].map(
      ([name, value]) => [/^(audio_spectrogram_transformer|classifier)\./.test(name) ? name : prefix + name, value] as const,
    );
    return new Map(named.filter(([name]) => this.#keepsHead || !name.startsWith('classifier.')));
  }
}

/** Reads a published `config.json`; throws `ConfigError` that names a missing or unsupported key. */
export const ast: EncoderArchitecture = {
  modality: 'audio',
  tasks: patchTasks((config, task, head) => new AstNetwork(readConfig(keys, config), task, head)),
};
