import type { ForwardContext } from '../nn/context.js';
import type { Module } from '../nn/module.js';
import { TokenNetwork } from '../nn/virtual-tokens.js';
import type { Reduction } from '../ops/loss.js';
import type { Tensor } from '../tensor.js';
import type { Pooling } from './pooling.js';

/** What an encoder reads: B examples of T tokens, of images [C, H, W], or of audio with T frames of M features. */
export type EncoderInput =
  | {
      /** i64 [B, T]; rows are padded on the right, `context.keyLengths` says how many tokens they have. */
      readonly ids: Tensor;
      /** i64 [B, T]: which part of a pair a token belongs to; absent: the first. */
      readonly tokenTypes?: Tensor;
    }
  | { /** [B, C, H, W]. */ readonly pixels: Tensor }
  | { /** [B, T, M]. */ readonly features: Tensor };

export type Modality = 'text' | 'image' | 'audio';

/** What an encoder answers with its head. */
export type EncoderTask = 'classification' | 'regression' | 'token-classification' | 'masked-lm' | 'embedding';

/** What the code around an encoder needs to know of it, whatever its architecture. */
export interface EncoderShape {
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  /** Most tokens of an example, its special ones included. */
  readonly contextLength: number;
  /** Size of the vocabulary; text only. */
  readonly vocabularySize?: number;
  /** Shape of one image [C, H, W] or recording [T, M]; absent for text. */
  readonly example?: readonly number[];
  /** How the tokens of an image or recording lie; absent for text. */
  readonly tokens?: EncoderTokens;
}

/** Special tokens, then patches row by row. */
export interface EncoderTokens {
  /** Learnt tokens in front of the patches. */
  readonly special: number;
  /** How many of them, from the first one, the head reads for themselves. */
  readonly read: number;
  /** Whether pooling leaves the special tokens out. Default false. */
  readonly unpooled?: boolean;
  /** Rows of the grid of patches, whatever the length of a recording; absent where there is no grid. */
  readonly rows?: number;
}

/** What becomes of position embeddings for a spectrogram of another length. */
export const kPositions = ['resized', 'zero'] as const;
export type PositionsOfLength = (typeof kPositions)[number];

/** Options of a head. */
export interface HeadOptions {
  /** Classes, or values of a regression. Default: as many as the config says. A head of another size than the published one starts anew. */
  readonly labels?: number;
  /** The head starts anew although a published one has its size. Default false. */
  readonly startsAnew?: boolean;
  /**
   * How an embedding is made of the hidden states; of images and audio also what a classifier reads. Default: text their mean, not normalised; images and audio as
   * published.
   */
  readonly pooling?: Pooling;
  /** Of AST: position embeddings of spectrograms of another length than published: `resized` (the default), or `zero`, as frameworks leave those that do not fit. */
  readonly positions?: PositionsOfLength;
}

/**
 * Base of the encoders with a head; one file an architecture says what is inside. Property names are the published checkpoint keys of the architecture with that head.
 */
export abstract class EncoderNetwork extends TokenNetwork {
  abstract readonly modality: Modality;
  abstract readonly task: EncoderTask;
  abstract override readonly shape: EncoderShape;
  /** Architectures say so that put the embeddings of virtual tokens in front of their rows (`withFront`). */
  override readonly takesEmbeddings: boolean = false;
  /** How hidden states become embeddings, where they are pooled; of images and audio also what a classifier reads. */
  declare readonly pooling?: Pooling | undefined;
  /** What position embeddings are for spectrograms of another length than published; of AST alone. */
  declare readonly positions?: PositionsOfLength;
  /** Paths of modules that a checkpoint may lack whole: they start from random values of `initialDeviation`, biases 0 and norms 1. */
  readonly startable: readonly string[] = [];
  readonly initialDeviation: number = 0.02;
  /** Paths of modules that the checkpoint has and the task does not run. */
  readonly idle: readonly string[] = [];

  /** By task: `classification` logits [B, L], `regression` [B, K], `token-classification` [B, T, L], `masked-lm` [B, T, V], `embedding` [B, D]. */
  abstract forward(input: EncoderInput, context: ForwardContext): Tensor;

  /** Cross-entropy of targets i64 [B, T] (-100: not to be learnt) without keeping logits; of networks for `masked-lm` alone. */
  maskedLoss?(input: EncoderInput, targets: Tensor, context: ForwardContext, reduction?: Reduction): Tensor;

  /** The weights of a checkpoint that this network reads, by the names that they have here: those of the bare encoder get its prefix, buffers and other heads go. */
  abstract sanitize<T>(weights: ReadonlyMap<string, T>): Map<string, T>;
}

/** Whether a layer belongs to what the task of its network does not run. */
export const isIdle = (network: Module, path: string): boolean =>
  network instanceof EncoderNetwork && network.idle.some((idle) => path === idle || path.startsWith(`${idle}.`));

/** How the networks of an architecture are made: without weights, from a published config. */
export interface EncoderArchitecture {
  readonly modality: Modality;
  readonly tasks: { readonly [Task in EncoderTask]?: (config: unknown, head: HeadOptions) => EncoderNetwork };
}
