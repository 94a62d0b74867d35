import type { FrontEnd } from './data/front-end.js';
import { ConfigError } from './errors.js';
import { LoadedModel, type LoadedParts } from './loaded-model.js';
import type { EncoderNetwork, EncoderTask } from './models/encoder.js';
import { type EncoderForwardOptions, type EncoderRows, encoderBatch } from './models/encoder-batch.js';
import { taskLoss, tokenTargets } from './models/task-loss.js';
import { predictTask } from './predict.js';
import { scope } from './scope.js';
import type { PredictInput, Predictions, PredictOptions, TaskLossInput, TaskModel } from './task-model.js';
import type { Tensor } from './tensor.js';

export interface EncoderParts<T extends EncoderTask> extends LoadedParts<EncoderNetwork> {
  readonly task: T;
  readonly labels: readonly string[];
  readonly processor: FrontEnd | undefined;
  readonly newParameters: readonly string[];
  readonly headSeed: number;
}

/**
 * An encoder with the head of a task: what `loadModel` with a `task` returns. Owns the weights: `dispose()` releases them. Its weights are frozen until something
 * unfreezes them.
 *
 * @example
 * const model = await loadModel('./sst2-bert', { task: 'classification' });
 * const [{ label, probability }] = await model.predict(['a masterpiece']);
 */
export class EncoderModel<T extends EncoderTask = EncoderTask> extends LoadedModel<EncoderNetwork> implements TaskModel<T> {
  readonly task: T;
  readonly labels: readonly string[];
  readonly processor: FrontEnd | undefined;
  /** Parameters that the checkpoint does not have, which were drawn at random: those of a new head. */
  readonly newParameters: readonly string[];
  /** Seed of those. */
  readonly headSeed: number;

  constructor(parts: EncoderParts<T>) {
    super(parts);
    this.task = parts.task;
    this.labels = parts.labels;
    this.processor = parts.processor;
    this.newParameters = parts.newParameters;
    this.headSeed = parts.headSeed;
  }

  /** The answer of the head, on the tape; see `EncoderNetwork.forward` for its shape. Rows of token ids are padded on the right to the longest. */
  forward(rows: EncoderRows, options: EncoderForwardOptions = {}): Tensor {
    this.checkAlive('forward');
    return scope(() => {
      const { input, context } = encoderBatch(this.network, rows, options);
      return this.network.forward(input, context);
    });
  }

  /** The loss of the task on the tape: cross-entropy over classes or tokens, or squared error. A number, or one loss a target without reduction. */
  loss({ targets, reduction = 'mean', training, rows: adapters, tasks, checkpointing, ...rows }: TaskLossInput): Tensor {
    this.checkAlive('loss');
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
    this.checkAlive('predict');
    return predictTask(this, inputs, options);
  }

  /** The embedding of each example. Throws `ConfigError` for a model of another task. */
  embed(inputs: readonly PredictInput[], options?: PredictOptions): Promise<Float32Array[]> {
    this.checkAlive('embed');
    return embedWith(this, inputs, options);
  }
}

/** The embeddings of a model whose task is `embedding`. */
async function embedWith(model: TaskModel, inputs: readonly PredictInput[], options: PredictOptions | undefined): Promise<Float32Array[]> {
  if (model.task !== 'embedding') throw new ConfigError(`embed: the model was loaded for task "${model.task}"; expected task "embedding"`);
  return predictTask(model as TaskModel<'embedding'>, inputs, options, 'embed');
}
