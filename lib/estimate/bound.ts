import { layersOf } from '../adapters/inject.js';
import type { CausalLanguageModel } from '../models/causal-language-model.js';
import type { EncoderNetwork } from '../models/encoder.js';
import { Linear } from '../nn/linear.js';
import { blockOf } from './partial-network.js';

/** A training step as far as its memory goes. */
export interface StepShape {
  /** Rows of a forward pass and their tokens. */
  readonly rows: number;
  readonly length: number;
  readonly checkpointing: boolean;
  /** Bytes of a value between layers. */
  readonly width: number;
}

/** Copies of what goes into and comes out of the linear layers of a block that are alive at once, at most: for themselves, norms, gates, attention and their gradients. */
const kCopies = 3;
/** Logits that the loss of a bare head computes at a time. */
const kLogitChunk = 2 ** 24;
/** Bytes of a logit with its gradient. */
const kLogitBytes = 8;

/** Bytes beside weights, adapter, gradients and optimizer that a training step takes at most, from shapes alone. */
export function activationBound(network: CausalLanguageModel | EncoderNetwork, { rows, length, checkpointing, width }: StepShape): number {
  const tokens = rows * length;
  const { hiddenSize, layers } = network.shape;
  const blocks = new Map<number | string, number>();
  const numberOf = 'task' in network ? encoderBlockOf(network) : blockOf;
  for (const { path, shape = [] } of layersOf(network)) {
    const block = numberOf(path);
    if (block !== undefined) blocks.set(block, (blocks.get(block) ?? 0) + shape.reduce((sum, size) => sum + size, 0));
  }
  const values = [...blocks.values()];
  const kept = checkpointing ? Math.max(0, ...values) + layers * hiddenSize : values.reduce((sum, value) => sum + value, 0);
  const logits = 'task' in network ? encoderLogits(network, tokens) : languageLogits(network, tokens);
  return (kept + 2 * hiddenSize) * tokens * width * kCopies + logits * kLogitBytes;
}

/** The block that the path of a module lies in, undefined outside of the blocks. */
function encoderBlockOf(network: EncoderNetwork): (path: string) => string | undefined {
  const paths = [...network.namedModules()].filter(([, { role }]) => role === 'block').map(([path]) => path);
  return (path) => paths.find((block) => path.startsWith(`${block}.`));
}

/** Logits of a language model that are alive at once, with those of a bare head in chunks. */
function languageLogits(network: CausalLanguageModel, tokens: number): number {
  const { vocabularySize } = network.shape;
  const isChunked = network.lm_head.effective({ training: true }) instanceof Linear;
  return isChunked ? Math.min(tokens * vocabularySize, Math.max(kLogitChunk, vocabularySize)) : 2 * tokens * vocabularySize;
}

/** Heads of few labels do not count. */
const encoderLogits = ({ task, shape }: EncoderNetwork, tokens: number): number =>
  task === 'masked-lm' ? 2 * tokens * (shape.vocabularySize ?? 0) : 0;
