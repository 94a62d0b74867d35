import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FormatError, InvalidArgumentError } from '../errors.js';
import { adapterWeights, kAdapterWeights, readAdapterWeights } from './adapter-weights.js';
import { type GgufModel, readGgufModel } from './gguf.js';
import { downloadModel, type HubOptions, isHubId } from './hub.js';
import { type JsonObject, readJsonObject, readJsonObjectIfAny } from './json.js';
import { readSafetensorsFiles, type SafetensorsFiles } from './safetensors-files.js';
import { hasTokenizer } from './tokenizer-data.js';

/** A folder with a model as transformers saves it. */
export interface HuggingFaceFiles {
  readonly kind: 'huggingface';
  readonly folder: string;
  readonly config: JsonObject;
  /** `generation_config.json`, where there is one. */
  readonly generationConfig: JsonObject | undefined;
  readonly weights: SafetensorsFiles;
  readonly hasTokenizer: boolean;
}

/** A GGUF file; its tokenizer is in its metadata. */
export interface GgufFiles {
  readonly kind: 'gguf';
  readonly file: string;
  readonly config: JsonObject;
  readonly gguf: GgufModel;
}

/** A folder with an adapter as PEFT saves it. */
export interface AdapterFiles {
  readonly kind: 'adapter';
  readonly folder: string;
  /** `adapter_config.json`. */
  readonly config: JsonObject;
  readonly weights: SafetensorsFiles;
}

/** A safetensors file that stands alone. */
export interface PlainSafetensors {
  readonly kind: 'safetensors';
  readonly file: string;
  readonly weights: SafetensorsFiles;
}

/** The id of a model on the hub. */
export interface HubModel {
  readonly kind: 'hub';
  readonly id: string;
}

/** What a path or id stands for. */
export type ModelFiles = HuggingFaceFiles | GgufFiles | AdapterFiles | PlainSafetensors | HubModel;

const expected =
  'expected a folder with config.json and model.safetensors, a .gguf file, an adapter folder, a .safetensors file, or a hub id (organisation/name)';

/**
 * Finds out what a path or hub id is, reading headers and configs only. A path that exists wins over a hub id of the same form; nothing is downloaded.
 *
 * Throws `InvalidArgumentError` when there is no such thing, `FormatError` when it is broken or of another kind, `ConfigError` for a GGUF file of an
 * unsupported architecture.
 */
export async function identifyModel(pathOrId: string): Promise<ModelFiles> {
  if (typeof pathOrId !== 'string' || pathOrId === '' || pathOrId.includes('\0')) {
    throw new InvalidArgumentError(`model: must be a path or hub id; got ${JSON.stringify(pathOrId) ?? typeof pathOrId}`);
  }
  const status = await stat(pathOrId).catch(() => undefined);
  if (status?.isDirectory()) return identifyFolder(pathOrId);
  if (status !== undefined) return identifyFile(pathOrId);
  if (isHubId(pathOrId) && !/\.(gguf|safetensors|json|ya?ml|bin|pth?)$/.test(pathOrId)) return { kind: 'hub', id: pathOrId };
  throw new InvalidArgumentError(`model: no such file or folder; got "${pathOrId}", ${expected}`);
}

/** Like `identifyModel`; a hub id is downloaded into the cache first, or found there. Throws `HubError` and `CancelledError` too. */
export async function resolveModel(pathOrId: string, options: HubOptions = {}): Promise<Exclude<ModelFiles, HubModel>> {
  const found = await identifyModel(pathOrId);
  return found.kind === 'hub' ? identifyFolder(await downloadModel(found.id, options)) : found;
}

async function identifyFile(file: string): Promise<GgufFiles | PlainSafetensors> {
  if (file.endsWith('.gguf')) return identifyGguf(file);
  if (file.endsWith('.safetensors') || file.endsWith('.safetensors.index.json')) {
    return { kind: 'safetensors', file, weights: await readSafetensorsFiles(file) };
  }
  if (/\.(bin|pth?|ckpt|pkl)$/.test(file))
    throw new FormatError(`${file}: files of PyTorch's own format are not read, since they may run code; convert it to safetensors`);
  throw new FormatError(`${file}: is no model; ${expected}`);
}

function identifyGguf(file: string): GgufFiles {
  const gguf = readGgufModel(file);
  return { kind: 'gguf', file, config: gguf.config, gguf };
}

async function identifyFolder(folder: string): Promise<HuggingFaceFiles | GgufFiles | AdapterFiles> {
  const names = await readdir(folder);
  if (names.includes('adapter_config.json')) return readAdapterFolder(folder);
  if (names.includes('config.json')) return readModelFolder(folder, names);
  const blocks = names.filter((name) => name.endsWith('.gguf'));
  if (blocks.length === 1) return identifyGguf(join(folder, blocks[0] ?? ''));
  if (blocks.length > 1)
    throw new FormatError(`${folder}: has ${blocks.length} GGUF files; pass the path of one: ${blocks.sort().slice(0, 8).join(', ')}`);
  if (names.includes('adapter')) throw new FormatError(`${folder}: has no config.json; did you mean ${join(folder, 'adapter')}?`);
  throw new FormatError(`${folder}: has no config.json, no adapter_config.json and no .gguf file; ${expected}`);
}

/** Reads an adapter folder. Throws `FormatError` when the config or the weights are missing or broken. */
export async function readAdapterFolder(folder: string): Promise<AdapterFiles> {
  const config = await readJsonObject(join(folder, 'adapter_config.json'));
  const weights = adapterWeights(folder);
  if (weights === undefined) throw new FormatError(`${join(folder, kAdapterWeights)}: no such file`);
  return { kind: 'adapter', folder, config, weights: await readAdapterWeights(weights) };
}

async function readModelFolder(folder: string, names: readonly string[]): Promise<HuggingFaceFiles> {
  const config = await readJsonObject(join(folder, 'config.json'));
  const weights = await readSafetensorsFiles(join(folder, weightsFile(folder, names)));
  const generationConfig = await readJsonObjectIfAny(join(folder, 'generation_config.json'));
  return { kind: 'huggingface', folder, config, generationConfig, weights, hasTokenizer: await hasTokenizer(folder) };
}

/** The file of a model folder that holds or lists its weights: the usual name first; else a file of its own name, when there is only one. Throws `FormatError`. */
export function weightsFile(folder: string, names: readonly string[]): string {
  for (const usual of ['model.safetensors', 'model.safetensors.index.json']) {
    if (names.includes(usual)) return usual;
  }
  const [index, ...indices] = names.filter((name) => name.endsWith('.safetensors.index.json'));
  if (index !== undefined && indices.length === 0) return index;
  const [single, ...others] = names.filter((name) => name.endsWith('.safetensors'));
  if (single !== undefined && others.length === 0) return single;
  if (others.length > 0)
    throw new FormatError(`${folder}: has ${others.length + 1} safetensors files and no model.safetensors.index.json that joins them`);
  const pickle = names.some((name) => /^pytorch_model.*\.bin/.test(name))
    ? '; pytorch_model.bin is not read, since it may run code: convert it to safetensors'
    : '';
  throw new FormatError(`${folder}: has no model.safetensors${pickle}`);
}

/** Whether a folder holds an adapter. */
export async function isAdapterFolder(path: string): Promise<boolean> {
  return stat(join(path, 'adapter_config.json')).then(
    () => true,
    () => false,
  );
}
