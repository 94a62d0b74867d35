import { exampleOf } from '../data/example.js';
import { readRows } from '../data/files/read-rows.js';
import { sourceList } from '../data/source.js';
import { ConfigError, OutOfMemoryError } from '../errors.js';
import { freeMemory } from '../estimate/check.js';
import { readSourceModel, resolveAdapter, type SourceModel } from '../estimate/source-model.js';
import { planAdapter } from '../estimate/targets.js';
import { weightBytes } from '../estimate/weight-bytes.js';
import { formatBytes } from '../format.js';
import { createNetwork } from '../models/registry.js';
import type { Recipe } from '../recipe.js';
import { sourcesOf } from '../recipe-source.js';
import { settingsWithin } from '../train/options.js';
import { factorsOfRun } from './open-recipe.js';

/**
 * Finds what is wrong with a recipe before its model is loaded: data files, the model's config, targets, context, room for the weights.
 * `resumed` is the run folder that is gone on with.
 */
export async function checkRecipe(recipe: Recipe, signal: AbortSignal, resumed?: string): Promise<void> {
  for (const part of ['train', 'eval'] as const) checkSource(recipe, part);
  const source = await readSourceModel(recipe.model, signal);
  const network = createNetwork(source.config);
  try {
    settingsWithin(network.shape.contextLength, recipe.training);
    if (recipe.training.memory === 'error') checkRoom(recipe, source, network);
  } finally {
    network.dispose();
  }
  const adapter = await resolveAdapter(recipe.adapter);
  if (recipe.data.calibration !== undefined) {
    if ((await factorsOfRun(adapter, resumed)) === undefined) checkSource(recipe, 'calibration');
    if (typeof recipe.adapter === 'string' || !adapter.method.usesData?.(adapter.config))
      throw new ConfigError('recipe: data.calibration: the adapter looks at no data before it starts; expected an "init" that does');
  }
  await planAdapter(source.config, adapter);
  if (!source.hasTokenizer)
    throw new ConfigError(`recipe: the model "${recipe.model}" has no tokenizer; expected tokenizer.json beside its weights`);
}

/** The words of the readers, with the key that they are about. */
function checkSource({ data }: Recipe, part: 'train' | 'eval' | 'calibration'): void {
  const source = data[part];
  if (source === undefined) return;
  try {
    for (const each of sourceList(sourcesOf(source))) {
      exampleOf(each);
      if (each.path !== undefined) readRows(each.path, each.separator === undefined ? {} : { separator: each.separator });
    }
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(`recipe: data.${part}: ${error.message.replace(/^data: /, '')}`, { cause: error });
  }
}

function checkRoom(recipe: Recipe, source: SourceModel, network: ReturnType<typeof createNetwork>): void {
  const bytes = weightBytes(network, source, recipe);
  const free = freeMemory();
  if (bytes > free)
    throw new OutOfMemoryError(
      `train: the weights alone do not fit into memory; they take ${formatBytes(bytes)}, ${formatBytes(free)} is available; ` +
        'what helps: dtype: bf16, int8 or nf4; training.memory: warn starts all the same',
    );
}
