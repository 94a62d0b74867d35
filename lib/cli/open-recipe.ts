import { type AdapterConfig, attach, loadAdapter, type TunedModel } from '../index.js';
import type { Recipe } from '../recipe.js';
import type { CommandContext } from './command.js';
import { openBase } from './open-model.js';

/** The model and adapter of a recipe, owned by a command. */
export interface OpenRecipe {
  readonly tuned: TunedModel;
  dispose(): void;
}

export async function openRecipe(recipe: Recipe, context: CommandContext): Promise<OpenRecipe> {
  const { adapter, training } = recipe;
  const { signal } = context;
  const model = await openBase(recipe, context);
  try {
    const tuned =
      typeof adapter === 'string'
        ? await loadAdapter(model, adapter, { signal })
        : await attach(model, adapter as unknown as AdapterConfig, { signal, seed: training.seed });
    return { tuned, dispose: () => model.dispose() };
  } catch (error) {
    model.dispose();
    throw error;
  }
}
