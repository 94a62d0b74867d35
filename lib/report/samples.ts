import { generateBatch } from '../generate/generate.js';
import type { LanguageModel } from '../model.js';
import type { Recipe } from '../recipe.js';

/** What the report shows beside the curves; the `report` part of a recipe. */
export type ReportSettings = NonNullable<Recipe['report']>;

/** What the model says after each prompt; the draws are its own, so that training goes on as if it had not been asked. */
export async function generateSamples(model: LanguageModel, settings: ReportSettings, signal?: AbortSignal): Promise<string[]> {
  const { samples, maxNewTokens, temperature, chat, task } = settings;
  const prompts = samples.map((text) => (chat ? [{ role: 'user' as const, content: text }] : text));
  const options = {
    maxNewTokens,
    temperature,
    seed: 1,
    ...(task === undefined ? {} : { task }),
    ...(signal === undefined ? {} : { signal }),
  };
  const texts = await generateBatch(model, prompts, options);
  return texts.map(({ text }) => text);
}
