import type { DataProgress } from '../data/dataset.js';
import type { DataSources } from '../data/source.js';
import { checkStepOptions } from '../data/step-loader.js';
import { ConfigError } from '../errors.js';
import { isLanguageModel, type LanguageModel } from '../model.js';
import { tokenRoom } from '../nn/virtual-tokens.js';
import { checked, type Recipe, type RecipeInput } from '../recipe.js';
import { reportSchema, trainingSchema } from '../recipe-schema.js';
import type { ReportSettings } from '../report/samples.js';
import type { TaskModel } from '../task-model.js';
import { checkLoss } from '../tasks/embedding/config.js';
import type { TrainingCallbacks } from './callbacks.js';
import type { EvaluationOptions } from './held-answers.js';
import { optimizerDefaults } from './optimizer.js';

/** The `training` part of a recipe; every key has a default. */
export type TrainingOptions = NonNullable<RecipeInput['training']>;

/** The `report` part of a recipe; every key has a default. */
export type ReportOptions = NonNullable<RecipeInput['report']>;

/** The same with all defaults filled in. */
export type TrainingSettings = Recipe['training'] & { readonly sequence: number };

export interface TrainOptions {
  readonly data: {
    /** One source, or several whose rows are mixed by `weight`. */
    readonly train: DataSources;
    /** One loss is computed over the rows of all sources. */
    readonly eval?: DataSources | undefined;
    /** Rows that cannot be parsed, lack fields or hold nothing to learn: an error (default), or left out and told by `onNotice`. */
    readonly badRows?: 'error' | 'skip' | undefined;
  };
  readonly training?: TrainingOptions;
  /** What is measured on held-out rows beside their loss. */
  readonly evaluation?: EvaluationOptions | undefined;
  /** Run folder for metrics, checkpoints and the adapter. Without it nothing is written. */
  readonly out?: string | undefined;
  /** What the report of the run folder shows beside its curves. */
  readonly report?: ReportOptions | undefined;
  /** Go on from the newest checkpoint of the run folder, from step 0 where there is none. Default false: a folder that exists is an error. */
  readonly resume?: boolean;
  /** Ends the run with the state of its last whole step saved; the run then rejects with `CancelledError`, which says how to resume. */
  readonly signal?: AbortSignal | undefined;
  /** What `recipe.yaml` in the run folder says beside `data`, `training` and `out`; of `data` the calibration. */
  readonly recipe?: Partial<Pick<Recipe, 'model' | 'task' | 'dtype' | 'compute' | 'layout' | 'device' | 'adapter'>> & {
    readonly data?: Pick<Recipe['data'], 'calibration'>;
  };
  /** Functions called at the start, after each step, evaluation and checkpoint, and at the end; each is awaited. */
  readonly callbacks?: TrainingCallbacks | undefined;
  /** Called while rows are read and tokenised. */
  readonly onData?: ((progress: DataProgress) => void) | undefined;
  /** Called with what is worth knowing of the rows: which were left out, how full packs are. */
  readonly onNotice?: ((message: string) => void) | undefined;
}

/** The longest sequence used where nothing is said, in tokens. */
const kDefaultSequence = 512;

/** Fills in the defaults. Throws `ConfigError` for unknown keys, wrong values, and a sequence over the model's context. */
export function trainingSettings(model: LanguageModel | TaskModel, options: TrainingOptions = {}): TrainingSettings {
  const settings = settingsWithin(tokenRoom(model.network), options);
  checkLoss(settings, isLanguageModel(model) ? undefined : model.task);
  return settings;
}

/** The same from the context length of a model alone. */
export function settingsWithin(contextLength: number, options: TrainingOptions): TrainingSettings {
  const settings = checked(trainingSchema, options, 'training');
  if (contextLength < 2)
    throw new ConfigError(`training: virtual tokens leave no room for a row; ${contextLength} tokens are left, expected at least 2`);
  const sequence = settings.sequence ?? Math.min(kDefaultSequence, contextLength);
  if (sequence > contextLength)
    throw new ConfigError(`training.sequence: longer than the model's context; got ${sequence}, expected at most ${contextLength}`);
  checkStepOptions(settings);
  return { ...settings, ...optimizerDefaults(settings), sequence };
}

/** Fills in the defaults. Throws `ConfigError` for unknown keys and wrong values, and for samples of a model that has no tokenizer or is no language model. */
export function reportSettings(model: LanguageModel | TaskModel, options: ReportOptions | undefined): ReportSettings | undefined {
  if (options === undefined) return undefined;
  const settings = checked(reportSchema, options, 'report');
  if (settings.samples.length > 0 && !isLanguageModel(model))
    throw new ConfigError(`report.samples: a model for "${model.task}" writes no text; leave them out`);
  if (settings.samples.length > 0 && !model.hasTokenizer)
    throw new ConfigError('report.samples: the model has no tokenizer; leave them out, or load the model with its tokenizer');
  return settings;
}
