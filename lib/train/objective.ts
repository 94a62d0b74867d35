import type { AnyMethod } from '../adapters/adapter.js';
import { ConfigError } from '../errors.js';
import type { LossPass, TaskBatch } from '../tasks/task.js';
import type { Tensor } from '../tensor.js';
import type { AnyTrainable } from './trainable.js';

/** The loss of a batch in training, summed over its targets. */
export type Objective = (batch: TaskBatch, pass: LossPass) => Tensor;

/**
 * The loss that the active adapters train on: that of the one whose method has its own, else that of the task. Throws `ConfigError` for two such adapters, and, when
 * it runs, for a task whose targets are no classes.
 */
export function objectiveOf({ active, adapters }: Pick<AnyTrainable, 'active' | 'adapters'>): Objective {
  const own = active.flatMap((name) => {
    const { method, config, placements } = adapters.get(name);
    const loss = (method as AnyMethod).trainingLoss?.(config, placements);
    return loss === undefined ? [] : [{ name, type: method.name, loss }];
  });
  const [first, second] = own;
  if (first === undefined) return (batch, pass) => batch.loss(pass);
  if (second !== undefined)
    throw new ConfigError(`train: "${first.name}" and "${second.name}" each have a loss of their own; expected one of them to be active`);
  return (batch, pass) => {
    const { outputs } = batch;
    if (outputs === undefined)
      throw new ConfigError(
        `train: the loss of "${first.name}" (${first.type}) compares the classes that two passes predict, and this task has none; expected a task of classes, or a config of one pass`,
      );
    return first.loss((hidden) => outputs({ ...pass, ...(hidden && { hidden }) }));
  };
}
