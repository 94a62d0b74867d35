import { type LanguageModel, loadAdapter, loadModel, type Model } from '../index.js';
import type { Compute, ModelDType } from '../models/weight-storage.js';
import type { WeightLayout } from '../ops/linalg.js';
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
export interface OpenModel {
  readonly model: LanguageModel;
  dispose(): void;
}

export async function openModel(options: ModelOptions, context: CommandContext): Promise<OpenModel> {
  const { output, signal } = context;
  const model = await openBase(options, context);
  const dispose = () => model.dispose();
  if (options.adapter === undefined) return { model, dispose };
  try {
    output.message(`loading adapter ${options.adapter}`);
    return { model: await loadAdapter(model, options.adapter, { signal }), dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** The model alone. */
export function openBase(
  { model, dtype, compute, layout, device }: Omit<ModelOptions, 'adapter'>,
  { output, signal }: CommandContext,
): Promise<Model> {
  output.message(`loading ${model}`);
  return loadModel(model, {
    signal,
    ...(dtype === undefined ? {} : { dtype }),
    ...(compute === undefined ? {} : { compute }),
    ...(layout === undefined ? {} : { layout }),
    ...(device === undefined ? {} : { device }),
  });
}
