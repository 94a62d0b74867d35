import { ConfigError } from '../errors.js';
import type { TaskModel } from '../task-model.js';
import type { EncoderRow } from './encoder-rows.js';
import type { Task } from './task.js';

/** An embedding of every example. Its losses compare the examples of a batch. */
export function embedding(model: TaskModel): Task<EncoderRow> {
  throw new ConfigError(
    `train: the model of ${model.source} was loaded for task "embedding", which is not trained or evaluated here; expected another task`,
  );
}
