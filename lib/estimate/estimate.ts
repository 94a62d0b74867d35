import { ConfigError } from '../errors.js';
import { encoderModality } from '../load-encoder.js';
import { createNetwork } from '../models/registry.js';
import { parseRecipe, type Recipe, type RecipeInput } from '../recipe.js';
import { sourcesOf } from '../recipe-source.js';
import { memory } from '../scope.js';
import { settingsWithin, type TrainingSettings } from '../train/options.js';
import { availableMemory } from './available.js';
import { type Extrapolation, extrapolate, type TrialProgress } from './extrapolate.js';
import { type RowLengths, rowLengths } from './row-lengths.js';
import { readSourceModel, resolveAdapter, type SourceModel } from './source-model.js';
import { type AdapterPlan, planAdapter } from './targets.js';
import { weightBytes } from './weight-bytes.js';

/** Bytes of native memory at the moment when most is in use, by what holds them. */
export interface PeakBytes {
  /** Frozen weights in the layout of their kernels. */
  readonly weights: number;
  /** Parameters, and the factors that they started from where those were taken out of the weights. */
  readonly adapter: number;
  readonly gradients: number;
  /** State of the optimizer. */
  readonly optimizer: number;
  /** What the blocks keep for backward. */
  readonly activations: number;
  /** What comes and goes: the head and its loss, a block while it runs, a copy of the optimizer's state while it is saved. */
  readonly workspace: number;
}

export interface Estimate {
  readonly peakBytes: PeakBytes;
  /** Sum of `peakBytes`: what `peakBytes` of the finished run will be. */
  readonly totalBytes: number;
  /** Weights that stay in the mapped file (`layout: native`), not counted above: the system drops their pages when memory runs short. */
  readonly mappedBytes: number;
  /** `totalBytes` with what the process itself takes (runtime, tokenizer). */
  readonly processBytes: number;
  /** What this process can still take. */
  readonly availableBytes: number;
  /** Of one optimizer step. */
  readonly secondsPerStep: number;
  readonly totalSeconds: number;
  readonly trainableParameters: number;
  /** Tokens of one optimizer step, padding not counted. */
  readonly tokensPerStep: number;
}

/** A recipe, or its parts: without `data` every row is taken to be as long as `training.sequence`. */
export type EstimateInput = Pick<RecipeInput, 'model'> & Partial<Omit<RecipeInput, 'model'>>;

export interface EstimateOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: TrialProgress;
}

/**
 * What a training would take, before its model is loaded: config and headers are read, real training steps run on a few blocks with random weights, and
 * their memory and time are carried over to the whole. What an initialisation does that looks at weights or data is not counted, and ranks that it finds are taken
 * as they are configured. Nothing else should train in this process meanwhile: peaks are those of the process, and
 * `memory().peakBytes` starts anew.
 *
 * Throws what `loadModel`, `attach` and `train` throw for a recipe that cannot run, and `CancelledError` when the signal fires.
 *
 * @example
 * const { totalBytes, secondsPerStep } = await estimate({ model: './smollm2', dtype: 'bf16', training: { batch: 4, sequence: 512 } });
 */
export async function estimate(input: EstimateInput, options: EstimateOptions = {}): Promise<Estimate> {
  const { signal, onProgress = () => undefined } = options;
  const availableBytes = availableMemory();
  const recipe = parseRecipe({ ...input, data: input.data ?? { train: { path: kNoData } } });
  const source = await readSourceModel(recipe.model, signal);
  if (recipe.task !== undefined || encoderModality(source.config) !== undefined)
    throw new ConfigError('estimate: only the training of language models is estimated; got an encoder with a task');
  const adapter = await resolveAdapter(recipe.adapter);
  const { contextLength, mappedBytes } = outlineOf(source, recipe);
  const settings = settingsWithin(contextLength, recipe.training);
  const plan = await planAdapter(source.config, adapter);
  if (plan.adapted.length === 0) throw new ConfigError('estimate: the adapter is on no block of the model; expected targets in its layers');
  const lengths = await lengthsOf(recipe, source, settings);
  const base = {
    source,
    loading: recipe,
    adapter,
    settings,
    length: lengths.longest,
    evaluates: recipe.data.eval !== undefined,
    signal,
  };
  const trial = await extrapolate(base, plan, settings.batch, onProgress);
  const size = trainedSize(trial, plan);
  const peakBytes = partsOf(trial, size.bytes, plan.taken, recipe.out !== undefined);
  const totalBytes = Object.values(peakBytes).reduce((sum, bytes) => sum + bytes, 0);
  const passSeconds = trial.passSeconds * (lengths.padded / lengths.longest);
  const secondsPerStep = passSeconds * settings.accumulate;
  return {
    peakBytes,
    totalBytes,
    mappedBytes,
    processBytes: totalBytes + processBase(),
    availableBytes,
    secondsPerStep,
    totalSeconds: secondsPerStep * settings.steps,
    trainableParameters: size.parameters,
    tokensPerStep: Math.round(lengths.mean * settings.batch * settings.accumulate),
  };
}

const kNoData = '(no data)';
const kParameterBytes = 4;

/** What the whole network says without weights, unless the blocks with weights hold more: biases, copies of whole layers. */
function trainedSize({ adapter }: Extrapolation, { size, frozen }: AdapterPlan): { readonly parameters: number; readonly bytes: number } {
  const trained = adapter - frozen;
  if (size !== undefined && size.bytes >= trained) return size;
  return { parameters: Math.round(trained / kParameterBytes), bytes: trained };
}

/** What the network says before it has weights. */
function outlineOf(source: SourceModel, recipe: Recipe): { readonly contextLength: number; readonly mappedBytes: number } {
  using network = createNetwork(source.config);
  return { contextLength: network.shape.contextLength, mappedBytes: weightBytes(network, source, recipe).mapped };
}

async function lengthsOf({ data }: Recipe, source: SourceModel, settings: TrainingSettings): Promise<RowLengths> {
  const { batch, sequence, packing } = settings;
  const full = { longest: sequence, padded: sequence, mean: sequence };
  if (packing || !source.hasTokenizer || (!Array.isArray(data.train) && data.train.path === kNoData)) return full;
  return rowLengths(sourcesOf(data.train), await source.tokenizer(), batch, sequence);
}

/** Names the bytes of a trial. A save copies the optimizer's state, at a time when there is no gradient and no activation. */
function partsOf({ weights, adapter, optimizer, extra, blocks }: Extrapolation, trained: number, taken: number, saves: boolean): PeakBytes {
  const most = Math.max(extra, saves ? optimizer : 0);
  const gradients = Math.min(trained, most);
  const activations = Math.min(Math.max(0, blocks - gradients), most - gradients);
  const parts = { weights, adapter: adapter + taken, gradients, optimizer, activations, workspace: most - gradients - activations };
  return Object.fromEntries(Object.entries(parts).map(([name, bytes]) => [name, Math.round(bytes)])) as unknown as PeakBytes;
}

/** What this process takes beside native memory of tensors. */
function processBase(): number {
  const { bytes, cachedBytes } = memory();
  return Math.max(0, process.memoryUsage().rss - bytes - cachedBytes);
}
