import { type LanguageModel, loadAdapter, loadModel } from '../index.js';
import type { ModelDType } from '../models/weight-storage.js';
import type { Device } from '../tensor.js';
import type { CommandContext } from './command.js';

export interface ModelOptions {
  readonly model: string;
  readonly adapter?: string;
  readonly dtype?: ModelDType;
  readonly compute?: 'f32' | 'bf16';
  readonly device?: Device;
}

/** A model that a command owns, with the adapter of `--adapter` where one is given. */
export interface OpenModel {
  readonly model: LanguageModel;
  dispose(): void;
}

export async function openModel(options: ModelOptions, { output, signal }: CommandContext): Promise<OpenModel> {
  const { dtype, compute, device } = options;
  output.message(`loading ${options.model}`);
  const model = await loadModel(options.model, {
    signal,
    ...(dtype === undefined ? {} : { dtype }),
    ...(compute === undefined ? {} : { compute }),
    ...(device === undefined ? {} : { device }),
  });
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
