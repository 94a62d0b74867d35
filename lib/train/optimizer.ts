import { type LoraPlusGroup, loraPlusGroups } from '../adapters/lora-plus.js';
import { type AdapterGroup, groupsOf, hasRates } from '../adapters/parameter-rates.js';
import { ConfigError } from '../errors.js';
import {
  Adafactor,
  AdamW,
  AdamW8bit,
  adafactorDefaults,
  cosineSchedule,
  Lion,
  linearSchedule,
  oneCycleSchedule,
  type Schedule,
  SGD,
  stableDecaySchedule,
  warmupSchedule,
} from '../optim/index.js';
import type { Recipe } from '../recipe.js';
import type { TrainingSettings } from './options.js';
import { type AnyTrainable, trainableOf } from './trainable.js';

export type RunOptimizer = Adafactor | AdamW | AdamW8bit | Lion | SGD;

/** The settings that an optimizer has beside learning rate and decay, with its own defaults. */
export function optimizerDefaults({
  optimizer,
  betas,
  eps,
  momentum,
  adafactor,
}: Pick<Recipe['training'], 'optimizer' | 'betas' | 'eps' | 'momentum' | 'adafactor'>): OwnSettings {
  switch (optimizer) {
    case 'adamw':
    case 'adamw-8bit':
      return { betas: betas ?? [0.9, 0.999], eps: eps ?? 1e-8 };
    case 'lion':
      return { betas: betas ?? [0.9, 0.99] };
    case 'sgd':
      return { momentum: momentum ?? 0.9 };
    case 'adafactor':
      return { adafactor: adafactor ?? { ...adafactorDefaults, eps: [...adafactorDefaults.eps] } };
    default:
      return optimizer satisfies never;
  }
}

interface OwnSettings {
  readonly betas?: [number, number];
  readonly eps?: number;
  readonly momentum?: number;
  readonly adafactor?: NonNullable<Recipe['training']['adafactor']>;
}

/** The optimizer that the settings of a run ask for. Throws `InvalidArgumentError` when the model has nothing to train. */
export function createOptimizer(model: Pick<AnyTrainable, 'namedParameters' | 'adapters'>, settings: TrainingSettings): RunOptimizer {
  const { optimizer, learningRate, weightDecay } = settings;
  const parameters = trainableOf(model).values();
  const groups = groupsFor(model, settings);
  const { adafactor, ...own } = optimizerDefaults(settings);
  const options = { learningRate, weightDecay, ...own };
  switch (optimizer) {
    case 'adamw':
      return new AdamW(groups ?? parameters, options);
    case 'adamw-8bit':
      return new AdamW8bit(groups ?? parameters, options);
    case 'lion':
      return new Lion(groups ?? parameters, options);
    case 'sgd':
      return new SGD(groups ?? parameters, options);
    case 'adafactor':
      return new Adafactor(groups ?? parameters, { learningRate, weightDecay, ...adafactor });
    default:
      return optimizer satisfies never;
  }
}

/** Groups of parameters with rates of their own: those of LoRA+, or of the adapter methods. */
function groupsFor(
  model: Pick<AnyTrainable, 'namedParameters' | 'adapters'>,
  { learningRate, loraPlusRatio, weightDecay }: TrainingSettings,
): AdapterGroup[] | LoraPlusGroup[] | undefined {
  const own = hasRates(model.adapters);
  if (loraPlusRatio === undefined) return own ? groupsOf(model.adapters, { learningRate, weightDecay }) : undefined;
  if (own)
    throw new ConfigError(
      `training.loraPlusRatio: the adapter has learning rates of its own; got ${loraPlusRatio}, expected none, or routerLearningRate null`,
    );
  return loraPlusGroups(model, { learningRate, ratio: loraPlusRatio, weightDecay });
}

/** Default of `decayShare`. */
const kDecayShare = 0.2;

type ScheduleSettings = Pick<TrainingSettings, 'schedule' | 'steps' | 'warmup' | 'minimumRate' | 'decayShare'>;

/** Factors of the learning rate by step, counted from 0: those of transformers for the schedules that it has too. A run shorter than its warm-up only rises. */
export function createSchedule({ schedule, steps, warmup, minimumRate: end = 0, decayShare = kDecayShare }: ScheduleSettings): Schedule {
  const rest = Math.max(1, steps - warmup);
  switch (schedule) {
    case 'constant':
      return warmupSchedule(warmup);
    case 'linear':
      return warmupSchedule(warmup, linearSchedule({ steps: rest, end }));
    case 'cosine':
      return warmupSchedule(warmup, cosineSchedule({ steps: rest, end }));
    case 'wsd': {
      const decay = Math.max(1, Math.round(rest * decayShare));
      return warmupSchedule(warmup, stableDecaySchedule({ stable: rest - decay, decay, end }));
    }
    case 'one-cycle':
      return oneCycleSchedule({ steps });
    default:
      return schedule satisfies never;
  }
}
