import type { FrontEnd } from '../data/front-end.js';
import type { EncoderModel } from '../encoder-model.js';
import type { EncoderTask } from '../models/encoder.js';
import type { EncoderForwardOptions, EncoderRows } from '../models/encoder-batch.js';
import type { PredictInput, Predictions, PredictOptions, TaskLossInput, TaskModel } from '../task-model.js';
import type { Tensor } from '../tensor.js';
import { Tuned } from './tuned.js';

/**
 * An encoder with adapters: what `attach` and `loadAdapter` return for one. Computes like the model, and saves, merges and switches its adapters. There is one for
 * each model, and it changes the model itself: both compute the same. Owns the adapters, not the model: `dispose()` takes the adapters off.
 */
export class TunedEncoder<T extends EncoderTask = EncoderTask> extends Tuned<EncoderModel<T>> implements TaskModel<T> {
  /** The tuned form of a model: the one it has, or a new one without adapters. */
  static of<T extends EncoderTask>(model: EncoderModel<T> | TunedEncoder<T>): TunedEncoder<T> {
    if (model instanceof TunedEncoder) return model.usable();
    return (Tuned.on(model) as TunedEncoder<T> | undefined) ?? new TunedEncoder(model);
  }

  get task(): T {
    return this.model.task;
  }

  get labels(): readonly string[] {
    return this.model.labels;
  }

  get processor(): FrontEnd | undefined {
    return this.model.processor;
  }

  get newParameters(): readonly string[] {
    return this.model.newParameters;
  }

  get headSeed(): number {
    return this.model.headSeed;
  }

  /** The answer of the head, on the tape, by the active adapters or those that `rows` names for each row. */
  forward(rows: EncoderRows, options?: EncoderForwardOptions): Tensor {
    return this.live('forward').forward(rows, options);
  }

  /** The loss of the task on the tape. */
  loss(input: TaskLossInput): Tensor {
    return this.live('loss').loss(input);
  }

  /** What the model says of each example by the active adapters, without gradient. */
  predict(inputs: readonly PredictInput[], options?: PredictOptions): Promise<Predictions[T][]> {
    return this.live('predict').predict(inputs, options);
  }

  /** The embedding of each example. Throws `ConfigError` for a model of another task. */
  embed(inputs: readonly PredictInput[], options?: PredictOptions): Promise<Float32Array[]> {
    return this.live('embed').embed(inputs, options);
  }
}
