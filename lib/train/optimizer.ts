import { loraPlusGroups } from '../adapters/lora-plus.js';
import {
  AdamW,
  cosineSchedule,
  linearSchedule,
  oneCycleSchedule,
  type Schedule,
  SGD,
  stableDecaySchedule,
  warmupSchedule,
} from '../optim/index.js';
import type { TrainingSettings } from './options.js';
import { type TrainableModel, trainableOf } from './trainable.js';

export type RunOptimizer = AdamW | SGD;

/** Momentum of `optimizer: sgd`. */
const kMomentum = 0.9;

/** The optimizer that the settings of a run ask for. Throws `InvalidArgumentError` when the model has nothing to train. */
export function createOptimizer(model: Pick<TrainableModel, 'namedParameters'>, settings: TrainingSettings): RunOptimizer {
  const { optimizer, learningRate, loraPlusRatio, weightDecay, betas } = settings;
  const parameters = trainableOf(model).values();
  const groups = loraPlusRatio === undefined ? undefined : loraPlusGroups(model, { learningRate, ratio: loraPlusRatio, weightDecay });
  switch (optimizer) {
    case 'adamw':
      return new AdamW(groups ?? parameters, { learningRate, weightDecay, betas });
    case 'sgd':
      return new SGD(groups ?? parameters, { learningRate, weightDecay, momentum: kMomentum });
    default:
      return optimizer satisfies never;
  }
}

/** Share of the steps after the warm-up over which `wsd` falls. */
const kDecayShare = 0.2;

/** Factors of the learning rate by step, counted from 0: those of transformers for the schedules that it has too. A run shorter than its warm-up only rises. */
export function createSchedule({ schedule, steps, warmup }: Pick<TrainingSettings, 'schedule' | 'steps' | 'warmup'>): Schedule {
  const rest = Math.max(1, steps - warmup);
  switch (schedule) {
    case 'constant':
      return warmupSchedule(warmup);
    case 'linear':
      return warmupSchedule(warmup, linearSchedule({ steps: rest }));
    case 'cosine':
      return warmupSchedule(warmup, cosineSchedule({ steps: rest }));
    case 'wsd': {
      const decay = Math.max(1, Math.round(rest * kDecayShare));
      return warmupSchedule(warmup, stableDecaySchedule({ stable: rest - decay, decay }));
    }
    case 'one-cycle':
      return oneCycleSchedule({ steps });
    default:
      return schedule satisfies never;
  }
}
