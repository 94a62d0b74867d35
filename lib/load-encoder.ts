import { EncoderModel } from './encoder-model.js';
import { ConfigError } from './errors.js';
import type { HuggingFaceFiles } from './io/model-files.js';
import { readPooling } from './io/sentence-encoder.js';
import { Tokenizer } from './io/tokenizer.js';
import type { Weights } from './io/weights.js';
import type { LoadedAs } from './loaded-model.js';
import type { EncoderArchitecture, EncoderTask, Modality, PositionsOfLength } from './models/encoder.js';
import { createEncoder, encoders, modelTypeOf } from './models/encoders.js';
import { readFrontEnd } from './models/front-ends.js';
import { labelsFor, startsAnew, withLabels } from './models/labels.js';
import { type LoadWeightsOptions, loadWeights } from './models/load-weights.js';
import type { Pooling } from './models/pooling.js';
import { otherHead, publishedTask } from './models/published-task.js';
import { savedHead } from './models/saved-head.js';
import type { Recipe } from './recipe.js';
import type { Device } from './tensor.js';

/** What says which head an encoder gets. */
export interface HeadRequest<T extends EncoderTask = EncoderTask> {
  /** What the model is to answer; `published`: what its checkpoint was published for. */
  readonly task: T | 'published';
  /**
   * Names of the classes, or how many there are (of `regression`: of the values). Default: those of the config, where its head is of this task. A published head of
   * another task or size, or of classes with other names, starts anew; its names in another order are refused.
   */
  readonly labels?: readonly string[] | number;
  /**
   * How an embedding is made of the hidden states; of images and audio also what a classifier reads. Default: as the files of sentence-transformers say, else as the
   * architecture does; of a saved model as it was.
   */
  readonly pooling?: Pooling;
  /**
   * Of AST: what position embeddings are for spectrograms of another length than published: `resized`, or `zero`, as if there were none. Default: resized; of a saved
   * model as it was.
   */
  readonly positions?: PositionsOfLength;
  /** Seed of a head that the checkpoint lacks. Default 0. */
  readonly seed?: number;
}

/** The same from the `task` of a recipe; `others` is the seed where it has none of its own. */
export function headRequestOf(
  { type: task, labels, pooling, positions, seed: own }: NonNullable<Recipe['task']>,
  others?: number,
): HeadRequest {
  const seed = own ?? others;
  return {
    task,
    ...(labels === undefined ? {} : { labels }),
    ...(pooling === undefined ? {} : { pooling }),
    ...(positions === undefined ? {} : { positions }),
    ...(seed === undefined ? {} : { seed }),
  };
}

interface Config {
  readonly [key: string]: unknown;
}

function architectureOf(config: Config): EncoderArchitecture | undefined {
  const type = modelTypeOf(config);
  return typeof type === 'string' && Object.hasOwn(encoders, type) ? encoders[type] : undefined;
}

/** What the encoder of a config reads; undefined where it is of no encoder. */
export const encoderModality = (config: Config): Modality | undefined => architectureOf(config)?.modality;

/** The tasks that the architecture of a config has heads for. */
const tasksOf = (config: Config): string[] => Object.keys(architectureOf(config)?.tasks ?? {});

/** The network of an encoder with the head that is asked for, without weights, and the config that says so. `source` is what messages call it. */
export async function encoderFor<T extends EncoderTask>(
  source: string,
  { folder, config: published }: Pick<HuggingFaceFiles, 'folder' | 'config'>,
  request: HeadRequest<T>,
) {
  const found = request.task === 'published' || request.task === 'embedding' ? await readPooling(folder) : undefined;
  const saved = savedHead(published);
  const hasPooling = (found ?? saved.pooling) !== undefined;
  const wanted = request.task === 'published' ? publishedTask(source, published, hasPooling, tasksOf(published)) : request.task;
  const task = wanted as T;
  const labels = labelsFor(task, published, request.labels);
  if (request.pooling !== undefined && task !== 'embedding' && encoderModality(published) === 'text')
    throw new ConfigError(`loadModel: "pooling" is for task "embedding"; got it with task "${task}" of a model of text`);
  const pooling = request.pooling ?? (task === 'embedding' ? found : undefined) ?? saved.pooling;
  const positions = request.positions ?? saved.positions;
  const head = {
    ...(labels.length === 0 ? {} : { labels: labels.length, startsAnew: startsAnew(task, published, labels) }),
    ...(pooling && { pooling }),
    ...(positions && { positions }),
  };
  const network = createEncoder(published, task, head);
  if (request.positions !== undefined && network.positions === undefined)
    throw new ConfigError(
      `loadModel: "positions" is for spectrograms of other lengths; got it with "${modelTypeOf(published)}", expected audio-spectrogram-transformer`,
    );
  return { task, labels, config: withLabels(published, task, labels), network };
}

/** An encoder with a head from a folder; `loading` says how its weights are kept. */
export async function loadEncoder<T extends EncoderTask>(
  files: HuggingFaceFiles,
  weights: Weights,
  request: HeadRequest<T>,
  loading: LoadWeightsOptions,
  parts: { readonly source: string; readonly device: Device; readonly loadedAs: LoadedAs },
): Promise<EncoderModel<T>> {
  const { folder } = files;
  const { seed = 0 } = request;
  const { network, task, labels, config } = await encoderFor(parts.source, files, request);
  warnOfOtherHead(parts.source, task, files.config);
  try {
    const fresh = await loadWeights(network, weights, { ...loading, seed });
    const newParameters = [...network.namedParameters()].flatMap(([name]) =>
      fresh.some((path) => name.startsWith(`${path}.`)) ? [name] : [],
    );
    return new EncoderModel({
      network,
      task,
      labels,
      config,
      tokenizer: files.hasTokenizer ? await Tokenizer.fromFolder(folder) : undefined,
      processor: await readFrontEnd(folder, config, network),
      newParameters,
      headSeed: seed,
      ...parts,
    });
  } catch (error) {
    network.dispose();
    throw error;
  }
}

/** Tells that a published head is not used: one of another task, which training of words alone has left behind, is expected. */
function warnOfOtherHead(source: string, task: EncoderTask, config: Config): void {
  const other = otherHead(task, config);
  if (other === undefined || other === 'masked-lm' || task === 'masked-lm' || task === 'embedding') return;
  process.emitWarning(
    `loadModel: ${source} was published with a head of another task; got ${other}, expected ${task}: a head starts anew, from the seed`,
    'LorikeetWarning',
  );
}

/** Throws `ConfigError` for an encoder that is loaded without a task, or a task for what is no encoder. */
export function requireTask(source: string, config: Config, task: string | undefined): void {
  const encoder = encoderModality(config) !== undefined;
  if (encoder && task === undefined)
    throw new ConfigError(`loadModel: ${source} is an encoder; say what it is to answer: task ${tasksOf(config).join(', ')}, or published`);
  if (!encoder && task !== undefined)
    throw new ConfigError(
      `loadModel: task "${task}" is for encoders; ${source} is "${config.model_type}", expected one of ${Object.keys(encoders).join(', ')}`,
    );
}
