import type { FrontEnd } from './data/front-end.js';
import { ConfigError, DisposedError } from './errors.js';
import type { JsonObject } from './io/json.js';
import type { Tokenizer } from './io/tokenizer.js';
import type { LoadedAs } from './model.js';
import type { EncoderNetwork, EncoderTask } from './models/encoder.js';
import { type EncoderForwardOptions, type EncoderRows, encoderBatch } from './models/encoder-batch.js';
import { taskLoss, tokenTargets } from './models/task-loss.js';
import type { Module } from './nn/module.js';
import { predictTask } from './predict.js';
import { scope, trimMemory } from './scope.js';
import type { PredictInput, Predictions, PredictOptions, TaskLossInput, TaskModel } from './task-model.js';
import type { Device, DType, Tensor } from './tensor.js';

export interface EncoderParts<T extends EncoderTask> {
  readonly network: EncoderNetwork;
  readonly task: T;
  readonly labels: readonly string[];
  readonly config: JsonObject;
  readonly device: Device;
  readonly tokenizer: Tokenizer | undefined;
  readonly processor: FrontEnd | undefined;
  readonly source: string;
  readonly newParameters: readonly string[];
  readonly headSeed: number;
  readonly loadedAs?: LoadedAs | undefined;
}

/**
 * An encoder with the head of a task: what `loadModel` with a `task` returns. Owns the weights: `dispose()` releases them. Its weights are frozen until something
 * unfreezes them.
 *
 * @example
 * const model = await loadModel('./sst2-bert', { task: 'classification' });
 * const [{ label, probability }] = await model.predict(['a masterpiece']);
 */
export class EncoderModel<T extends EncoderTask = EncoderTask> implements TaskModel<T> {
  readonly network: EncoderNetwork;
  readonly task: T;
  readonly labels: readonly string[];
  /** The published config, with the labels of this head. */
  readonly config: JsonObject;
  /** Dtype of the first parameter, and so of what is computed between layers. */
  readonly dtype: DType;
  readonly device: Device;
  readonly processor: FrontEnd | undefined;
  readonly source: string;
  readonly loadedAs: LoadedAs | undefined;
  /** Parameters that the checkpoint does not have, which were drawn at random: those of a new head. */
  readonly newParameters: readonly string[];
  /** Seed of those. */
  readonly headSeed: number;
  readonly #tokenizer: Tokenizer | undefined;
  #disposed = false;

  constructor(parts: EncoderParts<T>) {
    this.network = parts.network;
    this.task = parts.task;
    this.labels = parts.labels;
    this.config = parts.config;
    const [first] = parts.network.namedParameters();
    this.dtype = first?.[1].dtype ?? 'f32';
    this.device = parts.device;
    this.processor = parts.processor;
    this.source = parts.source;
    this.loadedAs = parts.loadedAs;
    this.newParameters = parts.newParameters;
    this.headSeed = parts.headSeed;
    this.#tokenizer = parts.tokenizer;
  }

  /** Throws `ConfigError` where the model came without one. */
  get tokenizer(): Tokenizer {
    if (this.#tokenizer === undefined)
      throw new ConfigError(`tokenizer: ${this.source} has none; expected tokenizer.json beside the weights; token ids work without it`);
    return this.#tokenizer;
  }

  get hasTokenizer(): boolean {
    return this.#tokenizer !== undefined;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** The answer of the head, on the tape; see `EncoderNetwork.forward` for its shape. Rows of token ids are padded on the right to the longest. */
  forward(rows: EncoderRows, options: EncoderForwardOptions = {}): Tensor {
    this.#check('forward');
    return scope(() => {
      const { input, context } = encoderBatch(this.network, rows, options);
      return this.network.forward(input, context);
    });
  }

  /** The loss of the task on the tape: cross-entropy over classes or tokens, or squared error. A number, or one loss a target without reduction. */
  loss({ targets, reduction = 'mean', training, rows: adapters, tasks, checkpointing, ...rows }: TaskLossInput): Tensor {
    this.#check('loss');
    return scope(() => {
      const { network } = this;
      const { input, context } = encoderBatch(network, rows, { training, rows: adapters, tasks, checkpointing });
      if (network.maskedLoss === undefined || !('ids' in input))
        return taskLoss(this.task, network.forward(input, context), targets, reduction);
      const wanted = tokenTargets(targets, [...input.ids.shape, network.shape.vocabularySize ?? 0], reduction);
      return network.maskedLoss(input, wanted, context, reduction);
    });
  }

  /**
   * What the model says of each example, without gradient.
   *
   * @example
   * const [tags] = await model.predict([{ words: ['Ada', 'lives', 'in', 'London'] }]);
   */
  predict(inputs: readonly PredictInput[], options?: PredictOptions): Promise<Predictions[T][]> {
    this.#check('predict');
    return predictTask(this, inputs, options);
  }

  /** The embedding of each example. Throws `ConfigError` for a model of another task. */
  embed(inputs: readonly PredictInput[], options?: PredictOptions): Promise<Float32Array[]> {
    this.#check('embed');
    return embedWith(this, inputs, options);
  }

  /** The module at a path of property names, such as `bert.encoder.layer.0.attention.self.query`. */
  module(path: string): Module {
    return this.network.module(path);
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.network.dispose();
    trimMemory();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #check(what: string): void {
    if (this.#disposed) throw new DisposedError(`${what}: the model ${this.source} was disposed; load it again`);
  }
}

/** The embeddings of a model whose task is `embedding`. */
async function embedWith(model: TaskModel, inputs: readonly PredictInput[], options: PredictOptions | undefined): Promise<Float32Array[]> {
  if (model.task !== 'embedding') throw new ConfigError(`embed: the model was loaded for task "${model.task}"; expected task "embedding"`);
  return predictTask(model as TaskModel<'embedding'>, inputs, options, 'embed');
}
