import type { EncoderModel } from './encoder-model.js';
import { DeviceError, FormatError, throwIfAborted } from './errors.js';
import { hasGgufTokenizer } from './io/gguf-tokenizer.js';
import type { HubProgress } from './io/hub.js';
import type { JsonObject } from './io/json.js';
import { type GgufFiles, type HuggingFaceFiles, resolveModel } from './io/model-files.js';
import { Tokenizer } from './io/tokenizer.js';
import { ggufWeights, safetensorsWeights, type Weights } from './io/weights.js';
import { type HeadRequest, loadEncoder, requireTask } from './load-encoder.js';
import { Model } from './model.js';
import type { EncoderTask } from './models/encoder.js';
import { type LoadProgress, type LoadWeightsOptions, loadWeights } from './models/load-weights.js';
import { createNetwork } from './models/registry.js';
import { type Compute, type ModelDType, readDtype, readLayout } from './models/weight-storage.js';
import type { WeightLayout } from './ops/linalg.js';
import type { Device } from './tensor.js';

export type LoadModelProgress = ({ readonly stage: 'download' } & HubProgress) | ({ readonly stage: 'load' } & LoadProgress);

export interface LoadOptions {
  /**
   * Dtype of weights and activations; default: as stored, GGUF blocks as f32. `stored`, `nf4` and `int8` keep frozen weights in few bits; NF4 takes options as
   * `{ type: 'nf4', blockSize: 64, doubleQuantization: true }`.
   */
  readonly dtype?: ModelDType;
  /**
   * With weights in few bits: dtype of activations, embedding and norms, f32 or bf16. Default: what it would be without `dtype`. `int8` goes with every dtype but
   * f64: frozen linear layers but the head (of `stored` blocks, the head too, forward alone) multiply 8-bit integers, and everything else is in the floating dtype, or
   * in bf16 beside weights in few bits.
   */
  readonly compute?: Compute;
  /**
   * How frozen float weights are packed for the kernels. `retile` (default) keeps one copy, from which every backward makes what it needs; `dual` keeps a second
   * copy for backward, made by the first; `native` keeps none: weights of a safetensors file that are loaded in the dtype they are stored in stay in the mapped
   * file, which must not be changed in place while the model lives. Nothing stays there of weights that are cast, of linear layers in few bits or with compute
   * `int8`, and of blocks. Results have the same bits.
   */
  readonly layout?: WeightLayout;
  /** Default cpu. */
  readonly device?: Device;
  /** Called as files are downloaded and as weights are loaded. */
  readonly onProgress?: (progress: LoadModelProgress) => void;
  readonly signal?: AbortSignal;
}

/** `LoadOptions` of an encoder, with the head that it gets. */
export interface EncoderLoadOptions<T extends EncoderTask = EncoderTask> extends LoadOptions, HeadRequest<T> {}

/**
 * Loads a causal language model: a Hugging Face folder (`config.json` with one or sharded safetensors files), a `.gguf` file or a folder with one, or the id of
 * a model on the hub, which is downloaded into the shared cache. With a `task` it loads an encoder with the head of that task. A head that the checkpoint
 * lacks is drawn at random (`newParameters` of the model names it).
 *
 * @example
 * const model = await loadModel('./smollm2', { dtype: 'bf16' });
 * const classifier = await loadModel('./minilm', { task: 'classification', labels: ['question', 'answer'] });
 *
 * Throws `ConfigError` for a config that is incomplete or of an unknown architecture, `FormatError` for broken files and for weights that do not fit the config,
 * `ConfigError` for an unknown dtype or layout, `NonFiniteError` for NaN in a weight, `HubError` when the hub has no such model or cannot be reached, `CancelledError` when `signal` fires.
 */
export function loadModel<T extends EncoderTask>(pathOrId: string, options: EncoderLoadOptions<T>): Promise<EncoderModel<T>>;
export function loadModel(pathOrId: string, options?: LoadOptions & { readonly task?: undefined }): Promise<Model>;
export async function loadModel(
  pathOrId: string,
  options: LoadOptions & { readonly task?: HeadRequest['task'] | undefined } = {},
): Promise<Model | EncoderModel> {
  const { signal, onProgress, device = 'cpu', task } = options;
  const { storage, compute, int8 } = readDtype(options.dtype, options.compute);
  const layout = readLayout(options.layout);
  if (device !== 'cpu')
    throw new DeviceError(`loadModel: models are computed on the cpu in this version; got device "${device}", expected "cpu"`);
  throwIfAborted(signal, 'loadModel');
  const files = await resolveModel(pathOrId, {
    ...(signal && { signal }),
    ...(onProgress && { onProgress: (progress) => onProgress({ stage: 'download', ...progress }) }),
  });
  if (files.kind === 'adapter')
    throw new FormatError(`loadModel: ${pathOrId} is an adapter; load its base model, then loadAdapter(model, path)`);
  if (files.kind === 'safetensors')
    throw new FormatError(`loadModel: ${pathOrId} has weights but no config; expected a folder with config.json beside them`);
  requireTask(pathOrId, files.config, task);
  const loading: LoadWeightsOptions = {
    dtype: compute,
    storage,
    layout,
    int8,
    signal,
    onProgress: onProgress && ((progress) => onProgress({ stage: 'load', ...progress })),
  };
  const parts = { source: pathOrId, device, loadedAs: { dtype: options.dtype, compute: options.compute, layout } };
  if (task !== undefined) return loadEncoder(files as HuggingFaceFiles, weightsOf(files), { ...options, task }, loading, parts);
  const network = createNetwork(files.config);
  try {
    await loadWeights(network, weightsOf(files), loading);
    const tokenizer = await tokenizerOf(files);
    const endTokens = endTokensOf(files, tokenizer);
    return new Model({ network, config: files.config, tokenizer, endTokens, ...parts });
  } catch (error) {
    network.dispose();
    throw error;
  }
}

function weightsOf(files: HuggingFaceFiles | GgufFiles): Weights {
  if (files.kind === 'gguf') return ggufWeights(files.gguf.header, files.gguf.tensors);
  const { unexpected } = files.weights;
  if (unexpected.length > 0) {
    throw new FormatError(
      `${files.folder}: ${unexpected.length} tensors of the shards are not in the index: ${unexpected.slice(0, 10).join(', ')}`,
    );
  }
  return safetensorsWeights(files.weights, files.folder);
}

async function tokenizerOf(files: HuggingFaceFiles | GgufFiles): Promise<Tokenizer | undefined> {
  if (files.kind === 'gguf') return hasGgufTokenizer(files.gguf.header) ? Tokenizer.fromGguf(files.gguf.header) : undefined;
  return files.hasTokenizer ? Tokenizer.fromFolder(files.folder) : undefined;
}

/** Ids that end a text: those of the generation config, else of the config, and the end-of-turn tokens that the tokenizer knows. */
function endTokensOf(files: HuggingFaceFiles | GgufFiles, tokenizer: Tokenizer | undefined): number[] {
  const idsIn = (config: JsonObject | undefined): number[] =>
    [config?.eos_token_id].flat().filter((id): id is number => typeof id === 'number');
  const generation = files.kind === 'huggingface' ? idsIn(files.generationConfig) : [];
  return [...new Set([...(generation.length > 0 ? generation : idsIn(files.config)), ...(tokenizer?.stopIds ?? [])])];
}
