/** What the encoders of images and spectrograms share: keys of their configs, attention of every token to every token, and how a sequence becomes one answer. */
import { z } from 'zod';
import { ConfigError, InvalidArgumentError } from '../errors.js';
import { attend } from '../nn/attention.js';
import type { ForwardContext } from '../nn/context.js';
import { cast } from '../ops/elementwise.js';
import { expand, reshape, select } from '../ops/shape.js';
import type { Tensor } from '../tensor.js';
import { count, flag, kMostLayers } from './config.js';
import type { EncoderArchitecture, EncoderInput, EncoderNetwork, HeadOptions } from './encoder.js';
import { headSizeOf } from './head-size.js';
import { modesOf, type Pooling, pool } from './pooling.js';

/** Keys that ViT and its kin publish, as spelled in `config.json`. */
export const patchEncoderKeys = {
  hidden_size: count,
  num_hidden_layers: count.max(kMostLayers),
  num_attention_heads: count,
  intermediate_size: count,
  hidden_act: z.string().default('gelu'),
  hidden_dropout_prob: z.number().min(0).lt(1).default(0),
  layer_norm_eps: z.number().positive().default(1e-12),
  qkv_bias: flag.default(true),
  id2label: z.record(z.string(), z.string()).nullish(),
  initializer_range: z.number().positive().default(0.02),
};

/** The labels that a config names; undefined where it names none. */
export const namedLabels = ({ id2label }: { readonly id2label?: Record<string, string> | null | undefined }): number | undefined =>
  id2label == null ? undefined : Object.keys(id2label).length;

/** What encoders of images and spectrograms are asked for. */
export type PatchTask = 'classification' | 'regression' | 'embedding';

/** The tasks of an architecture by what makes its network from a published config. */
export const patchTasks = (
  make: (config: unknown, task: PatchTask, head: HeadOptions) => EncoderNetwork,
): EncoderArchitecture['tasks'] => ({
  classification: (config, head) => make(config, 'classification', head),
  regression: (config, head) => make(config, 'regression', head),
  embedding: (config, head) => make(config, 'embedding', head),
});

/**
 * The outputs of a head, none of embeddings, and whether the published one, of `published` outputs, is of that size. Without either number two classes, or one value
 * of a regression. Throws `ConfigError` for a number that cannot be.
 */
export function outputsOf(
  task: PatchTask,
  published: number | undefined,
  head: HeadOptions,
): { readonly labels?: number; readonly isPublished: boolean } {
  if (task === 'embedding') return { isPublished: false };
  const standard = published ?? (task === 'regression' ? 1 : 2);
  const { labels } = headSizeOf({}, { labels: head.labels ?? standard });
  return { labels, isPublished: labels === standard && !head.startsAnew };
}

/** Throws `ConfigError` unless heads share the width evenly. */
export function checkWidth(widthKey: string, width: number, headsKey: string, heads: number): void {
  if (width % heads !== 0)
    throw new ConfigError(`model config: "${widthKey}" must be a multiple of "${headsKey}"; got ${width} and ${heads}`);
}

/** Attention of every token to every token: q, k and v [B, T, D], shared out among the heads, to [B, T, D]. */
export function attendToAll(q: Tensor, k: Tensor, v: Tensor, heads: number, context: ForwardContext, layer: number): Tensor {
  const [batch = 0, time = 0, width = 0] = q.shape;
  const split = (x: Tensor): Tensor => reshape(x, [batch, time, heads, width / heads]);
  return reshape(attend(split(q), split(k), split(v), context, { layer, causal: false }), [batch, time, width]);
}

/** A learnt token [1, 1, D] before every sequence of a batch. */
export const repeated = (token: Tensor, batch: number): Tensor => expand(token, [batch, token.shape[1] ?? 1, token.shape[2] ?? 0]);

/** What a head reads of hidden states [B, T, D]: [B, D], or [B, M D] for M modes of pooling; without pooling the first token. */
export function readOut(hidden: Tensor, pooling: Pooling | undefined): Tensor {
  if (pooling === undefined) return select(hidden, 1, 0);
  return cast(pool(hidden, undefined, pooling), hidden.dtype);
}

/** Width of {@link readOut}. Throws `ConfigError` for an unknown mode. */
export const readOutWidth = (width: number, pooling: Pooling | undefined): number =>
  width * (pooling === undefined ? 1 : modesOf(pooling).length);

/** The images of an input. Throws `InvalidArgumentError` for another kind of input. */
export function pixelsOf(input: EncoderInput): Tensor {
  if ('pixels' in input) return input.pixels;
  throw new InvalidArgumentError(`forward: the model reads images; got ${Object.keys(input).join(', ')}, expected pixels`);
}

/** The frames of an input. Throws `InvalidArgumentError` for another kind of input. */
export function featuresOf(input: EncoderInput): Tensor {
  if ('features' in input) return input.features;
  throw new InvalidArgumentError(`forward: the model reads frames of audio; got ${Object.keys(input).join(', ')}, expected features`);
}
