import { join } from 'node:path';
import { type ResolvedConfig, resolveConfig, resolveOptions } from '../adapters/resolve-config.js';
import { kDtypeBytes } from '../dtype.js';
import { FormatError } from '../errors.js';
import { adapterWeights, readAdapterWeights } from '../io/adapter-weights.js';
import { hasGgufTokenizer } from '../io/gguf-tokenizer.js';
import { type JsonObject, readJsonObject } from '../io/json.js';
import { resolveModel } from '../io/model-files.js';
import { bareName } from '../io/peft.js';
import { readPeftConfig } from '../io/peft-config.js';
import type { StoredTensor } from '../io/safetensors-files.js';
import { Tokenizer } from '../io/tokenizer.js';
import { dtypeOfSafetensors, ggufWeights, type Weights } from '../io/weights.js';
import type { DType } from '../tensor.js';

/** What the headers of a model say: nothing of its weights is read. */
export interface SourceModel {
  /** The folder that it is in; absent for a single file. */
  readonly folder?: string;
  readonly config: JsonObject;
  /** The dtype that a weight is loaded in where none is asked for. */
  storedDtype(name: string): DType;
  /** Whether the floats of a weight can be read where they lie in the file: not in blocks, nor off the multiples of their size. */
  isPlain(name: string): boolean;
  /** The type of the blocks that a matrix is stored in, such as `q4_1`; undefined where it is stored as plain floats. */
  blockType(name: string): `q${string}` | undefined;
  /** Such a matrix; only of files that can have blocks. */
  readonly loadBlocks?: Weights['loadBlocks'];
  readonly hasTokenizer: boolean;
  /** Reads the tokenizer, where there is one. */
  tokenizer(): Promise<Tokenizer>;
}

/** Reads config and headers of a model folder, `.gguf` file or hub id. Throws as `loadModel` does for what cannot be one. */
export async function readSourceModel(pathOrId: string, signal?: AbortSignal): Promise<SourceModel> {
  const files = await resolveModel(pathOrId, signal === undefined ? {} : { signal });
  switch (files.kind) {
    case 'huggingface': {
      const { folder, weights, config } = files;
      return {
        folder,
        config,
        blockType: () => undefined,
        isPlain: (name) => isAligned(weights.tensors.get(name)),
        storedDtype: (name) => dtypeOf(weights.tensors.get(name)),
        hasTokenizer: files.hasTokenizer,
        tokenizer: () => Tokenizer.fromFolder(folder),
      };
    }
    case 'gguf': {
      const { header, tensors } = files.gguf;
      const { loadBlocks } = ggufWeights(header, tensors);
      return {
        config: files.config,
        storedDtype: () => 'f32',
        isPlain: (name) => {
          const tensor = tensors.get(name);
          return tensor?.type.name === 'F32' && tensor.interleavedHeads === 0;
        },
        blockType: (name) => {
          const type = tensors.get(name)?.type.name.toLowerCase();
          return type?.startsWith('q') ? (type as `q${string}`) : undefined;
        },
        ...(loadBlocks === undefined ? {} : { loadBlocks }),
        hasTokenizer: hasGgufTokenizer(header),
        tokenizer: async () => Tokenizer.fromGguf(header),
      };
    }
    case 'adapter':
      throw new FormatError(`model: ${pathOrId} is an adapter; expected the model it was made for`);
    default:
      throw new FormatError(`model: ${pathOrId} has weights but no config; expected a folder with config.json beside them`);
  }
}

const dtypeOf = (tensor: StoredTensor | undefined): DType => dtypeOfSafetensors[tensor?.dtype ?? 'F32'] ?? 'f32';
const isAligned = (tensor: StoredTensor | undefined): boolean => (tensor?.start ?? 0) % kDtypeBytes[dtypeOf(tensor)] === 0;

/** The method and options of an adapter config, or of the folder of a saved adapter. */
export async function resolveAdapter(adapter: string | Readonly<Record<string, unknown>>): Promise<ResolvedConfig> {
  if (typeof adapter !== 'string') return resolveConfig(adapter);
  const { method, config } = readPeftConfig(await readJsonObject(join(adapter, 'adapter_config.json')), await tensorNames(adapter));
  return resolveOptions(method, { ...config, allowUnmatched: true });
}

/** Names in the model of the tensors in an adapter folder, which tell methods apart that share a `peft_type`. */
async function tensorNames(adapter: string): Promise<string[]> {
  const weights = adapterWeights(adapter);
  return weights === undefined ? [] : [...(await readAdapterWeights(weights)).tensors.keys()].map(bareName);
}
