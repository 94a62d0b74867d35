import { candidatesOf } from '../adapters/inject.js';
import { type ResolvedConfig, targetOptions } from '../adapters/resolve-config.js';
import { selectTargets } from '../adapters/targets.js';
import { exampleOf } from '../data/example.js';
import { readRows } from '../data/files/read-rows.js';
import { requireQuestions } from '../data/questions.js';
import { type DataSource, sourceList } from '../data/source.js';
import { requireTaskFields } from '../data/task-fields.js';
import { ConfigError, OutOfMemoryError } from '../errors.js';
import { freeMemory } from '../estimate/check.js';
import { readSourceModel, resolveAdapter, type SourceModel } from '../estimate/source-model.js';
import { planAdapter } from '../estimate/targets.js';
import { weightBytes } from '../estimate/weight-bytes.js';
import { formatBytes } from '../format.js';
import { encoderFor, headRequestOf, requireTask } from '../load-encoder.js';
import { EncoderNetwork } from '../models/encoder.js';
import { createNetwork } from '../models/registry.js';
import type { Module } from '../nn/module.js';
import type { Recipe } from '../recipe.js';
import { sourcesOf } from '../recipe-source.js';
import { checkLoss } from '../tasks/embedding/config.js';
import { settingsWithin } from '../train/options.js';
import { factorsOfRun } from './open-recipe.js';

/**
 * Finds what is wrong with a recipe before its model is loaded: data files, the model's config, targets, context, room for the weights.
 * `resumed` is the run folder that is gone on with.
 */
export async function checkRecipe(recipe: Recipe, signal: AbortSignal, resumed?: string): Promise<void> {
  const { task } = recipe;
  if (task === undefined) checkSources(recipe, exampleOf);
  if (recipe.evaluation?.answers !== undefined) checkSource(recipe, 'eval', requireQuestions);
  const source = await readSourceModel(recipe.model, signal);
  requireTask(recipe.model, source.config, task?.type);
  const network = task === undefined ? createNetwork(source.config) : await networkOf(recipe, task, source);
  try {
    if (network instanceof EncoderNetwork) checkSources(recipe, (each) => requireTaskFields(network.task, network.modality, each));
    const adapter = await resolveAdapter(recipe.adapter);
    settingsWithin(network.shape.contextLength - virtualTokensOf(adapter), recipe.training);
    checkLoss(recipe.training, network instanceof EncoderNetwork ? network.task : undefined);
    if (recipe.training.memory === 'error') checkRoom(recipe, source, network);
    await checkCalibration(recipe, adapter, resumed);
    if (network instanceof EncoderNetwork) checkTargets(network, adapter);
    else await planAdapter(source.config, adapter);
  } finally {
    network.dispose();
  }
  const needsTokenizer = !(network instanceof EncoderNetwork) || network.modality === 'text';
  if (needsTokenizer && !source.hasTokenizer)
    throw new ConfigError(`recipe: the model "${recipe.model}" has no tokenizer; expected tokenizer.json beside its weights`);
}

async function networkOf(
  { model, training }: Recipe,
  task: NonNullable<Recipe['task']>,
  { folder = '', config }: SourceModel,
): Promise<EncoderNetwork> {
  if (training.packing)
    throw new ConfigError('recipe: training.packing: only texts of language models can share a sequence; expected false');
  return (await encoderFor(model, { folder, config }, headRequestOf(task))).network;
}

/** Tokens of the context that a method of the whole model takes. */
function virtualTokensOf({ method, config }: ResolvedConfig): number {
  const { virtualTokens } = config as { readonly virtualTokens?: unknown };
  return method.whole !== undefined && typeof virtualTokens === 'number' ? virtualTokens : 0;
}

/** Throws as `attach` does for targets that match nothing. */
function checkTargets(network: EncoderNetwork, { method, config }: ResolvedConfig): void {
  if (method.whole !== undefined) return;
  selectTargets(method.name, candidatesOf(network, method), targetOptions(method, config));
}

async function checkCalibration(recipe: Recipe, adapter: ResolvedConfig, resumed: string | undefined): Promise<void> {
  if (recipe.data.calibration === undefined) return;
  if ((await factorsOfRun(adapter, resumed)) === undefined)
    checkSource(recipe, 'calibration', recipe.task === undefined ? exampleOf : () => undefined);
  if (typeof recipe.adapter === 'string' || !adapter.method.usesData?.(adapter.config))
    throw new ConfigError('recipe: data.calibration: the adapter looks at no data before it starts; expected an "init" that does');
}

/** Throws `ConfigError` for fields that do not go together. */
type CheckFields = (source: DataSource) => unknown;

function checkSources(recipe: Recipe, check: CheckFields): void {
  for (const part of ['train', 'eval'] as const) checkSource(recipe, part, check);
}

/** The words of the readers, with the key that they are about. */
function checkSource({ data }: Recipe, part: 'train' | 'eval' | 'calibration', check: CheckFields): void {
  const source = data[part];
  if (source === undefined) return;
  try {
    for (const each of sourceList(sourcesOf(source))) {
      check(each);
      if (each.path !== undefined) readRows(each.path, each.separator === undefined ? {} : { separator: each.separator });
    }
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(`recipe: data.${part}: ${error.message.replace(/^data: /, '')}`, { cause: error });
  }
}

function checkRoom(recipe: Recipe, source: SourceModel, network: Module): void {
  const { memory: bytes } = weightBytes(network, source, recipe);
  const free = freeMemory();
  if (bytes > free)
    throw new OutOfMemoryError(
      `train: the weights alone do not fit into memory; they take ${formatBytes(bytes)}, ${formatBytes(free)} is available; ` +
        'what helps: dtype: bf16, int8 or nf4; training.memory: warn starts all the same',
    );
}
