import {
  type EncoderModel,
  type LanguageModel,
  type LoadAdapterOptions,
  loadAdapter,
  loadModel,
  type Model,
  type TaskModel,
} from '../index.js';
import { headRequestOf } from '../load-encoder.js';
import { isLanguageModel } from '../model.js';
import type { Compute, ModelDType } from '../models/weight-storage.js';
import type { WeightLayout } from '../ops/linalg.js';
import type { Recipe } from '../recipe.js';
import type { Device } from '../tensor.js';
import type { CommandContext } from './command.js';

export interface ModelOptions {
  readonly model: string;
  readonly adapter?: string;
  readonly dtype?: ModelDType | undefined;
  readonly compute?: Compute | undefined;
  readonly layout?: WeightLayout | undefined;
  readonly device?: Device | undefined;
}

/** A model that a command owns, with the adapter of `--adapter` where one is given. */
export interface OpenModel<M> {
  readonly model: M;
  dispose(): void;
}

export function openModel(options: ModelOptions, context: CommandContext): Promise<OpenModel<LanguageModel>>;
export function openModel(options: ModelOptions & RecipeTask, context: CommandContext): Promise<OpenModel<LanguageModel | TaskModel>>;
export async function openModel(
  options: ModelOptions & RecipeTask,
  context: CommandContext,
): Promise<OpenModel<LanguageModel | TaskModel>> {
  const { output, signal } = context;
  const model = await openBase(options, context);
  const dispose = () => model.dispose();
  if (options.adapter === undefined) return { model, dispose };
  try {
    output.message(`loading adapter ${options.adapter}`);
    return { model: await loadOnto(model, options.adapter, { signal }), dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** `loadAdapter` for whatever model. */
export const loadOnto = (model: Model | EncoderModel, folder: string, options: LoadAdapterOptions & { readonly strict?: true }) =>
  isLanguageModel(model) ? loadAdapter(model, folder, options) : loadAdapter(model, folder, options);

/** What an encoder of a recipe is to learn, and the seed of a new head. */
export interface RecipeTask {
  readonly task?: Recipe['task'] | undefined;
  readonly seed?: number;
}

/** The model alone. */
export async function openBase(
  { model, task, seed, dtype, compute, layout, device }: Omit<ModelOptions, 'adapter'> & RecipeTask,
  { output, signal }: CommandContext,
): Promise<Model | EncoderModel> {
  output.message(`loading ${model}`);
  const loading = {
    signal,
    ...(dtype === undefined ? {} : { dtype }),
    ...(compute === undefined ? {} : { compute }),
    ...(layout === undefined ? {} : { layout }),
    ...(device === undefined ? {} : { device }),
  };
  if (task === undefined) return loadModel(model, loading);
  const encoder = await loadModel(model, { ...loading, ...headRequestOf(task, seed) });
  const [first, ...others] = encoder.newParameters;
  if (first !== undefined)
    output.message(`${others.length + 1} new parameters of the head, drawn at random: ${[first, ...others].join(', ')}`);
  return encoder;
}
