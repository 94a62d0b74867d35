import { AdapterError, ConfigError, throwIfAborted } from '../../errors.js';
import type { LanguageModel } from '../../model.js';
import { lackingOf } from '../../models/lacking.js';
import { Linear } from '../../nn/linear.js';
import { dense } from '../../nn/quantized.js';
import { cast, notEqual } from '../../ops/elementwise.js';
import { PackedWeight } from '../../ops/linalg.js';
import { sum } from '../../ops/reduce.js';
import { noGrad, scope } from '../../scope.js';
import type { Tensor } from '../../tensor.js';
import { resolveModel } from '../model-files.js';
import { readTokenizerFolder } from '../tokenizer-data.js';
import type { GgufField } from './encoder.js';
import { ggufNameOf, isRotated, ropeFactorsName } from './names.js';
import { interleaveRows } from './rotary-rows.js';
import { encodeTensor, type WritableType, writableTypes } from './storage.js';
import { type GgufTensorBytes, writeGguf } from './writer.js';
import { type GgufShape, ggufShape } from './writer-config.js';
import { copiedTokenizerFields, tokenizerFields } from './writer-tokenizer.js';

export interface SaveGgufOptions {
  /** Type of the matrices; vectors are always F32, and matrices whose rows are no whole number of Q8_0 blocks become F16. Default: by their dtype in memory. */
  readonly type?: 'f32' | 'f16' | 'bf16' | 'q8_0';
  /** `general.name`. Default: the last part of the model's source. */
  readonly name?: string;
  /** Called before each tensor is written. */
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void;
  /** Leaves nothing behind when it fires. */
  readonly signal?: AbortSignal;
}

/**
 * Writes a model of the llama, mistral, qwen2 or qwen3 line as a GGUF file that llama.cpp and `loadModel` read, with its tokenizer where it has one. Weights
 * are those in memory: after `tuned.merge()` the merged ones. Returns the number of tensors.
 *
 * Throws `AdapterError` while an adapter holds a part of the weights (PiSSA and its kin), one not loaded here included, `ConfigError` for a config, a tokenizer or a parameter that has no GGUF form, `CancelledError` when `signal` fires.
 */
export async function saveGguf(
  model: LanguageModel & { readonly source: string },
  path: string,
  options: SaveGgufOptions = {},
): Promise<number> {
  const lacking = lackingOf(model);
  if (lacking !== undefined)
    throw new AdapterError(`saveGguf: the weights lack the part that "${lacking}" took out of them; merge the adapter that holds it first`);
  const shape = ggufShape(model.config);
  const type = typeOf(model, options.type);
  const metadata = new Map<string, GgufField>([
    ['general.architecture', { type: 'string', value: shape.architecture }],
    ['general.type', { type: 'string', value: 'model' }],
    [
      'general.name',
      {
        type: 'string',
        value:
          options.name ??
          model.source
            .replace(/[/\\]+$/, '')
            .split(/[/\\]/)
            .at(-1) ??
          'model',
      },
    ],
    ['general.file_type', { type: 'u32', value: writableTypes[type].fileType }],
    ['general.quantization_version', { type: 'u32', value: 2 }],
    ...shape.metadata,
    ...(await tokenizerOf(model)),
  ]);
  const tensors = await tensorsOf(model, shape, type);
  await writeGguf(path, metadata, watched(tensors, options));
  return tensors.size;
}

/** The tensors, each of which tells of itself when its turn comes. */
function watched(
  tensors: ReadonlyMap<string, GgufTensorBytes>,
  { onProgress, signal }: SaveGgufOptions,
): ReadonlyMap<string, GgufTensorBytes> {
  const entries = [...tensors].map(([name, tensor], done) => {
    const data = () => {
      throwIfAborted(signal, 'saveGguf');
      onProgress?.({ done, total: tensors.size });
      return tensor.data();
    };
    return [name, { ...tensor, data }] as const;
  });
  return new Map(entries);
}

function typeOf(model: LanguageModel, wanted: SaveGgufOptions['type']): WritableType {
  const name = (wanted ?? (model.dtype === 'bf16' || model.dtype === 'f16' ? model.dtype : 'f32')).toUpperCase();
  if (!Object.hasOwn(writableTypes, name)) throw new ConfigError(`gguf: unknown type "${wanted}"; expected f32, f16, bf16 or q8_0`);
  return name as WritableType;
}

async function tokenizerOf(model: LanguageModel & { readonly source: string }): Promise<Map<string, GgufField>> {
  // llama.cpp loads no file without this key.
  if (!model.hasTokenizer) return new Map([['tokenizer.ggml.model', { type: 'string', value: 'none' }]]);
  const files = await resolveModel(model.source);
  if (files.kind === 'gguf') return copiedTokenizerFields(files.gguf.header);
  if (files.kind !== 'huggingface') throw new ConfigError(`gguf: the tokenizer of ${model.source} cannot be found again; expected a model`);
  return tokenizerFields(await readTokenizerFolder(files.folder), Number(model.config.vocab_size));
}

async function tensorsOf(model: LanguageModel, shape: GgufShape, type: WritableType): Promise<Map<string, GgufTensorBytes>> {
  const { network } = model;
  const parameters = new Map<string, Tensor | PackedWeight>(network.namedParameters());
  const head = network.lm_head.effective();
  if (head instanceof Linear && !parameters.has('lm_head.weight') && (await isChangedHead(head)))
    parameters.set('lm_head.weight', head.weight);
  const tensors = new Map<string, GgufTensorBytes>();
  if (shape.ropeFactors !== undefined) {
    const { buffer } = shape.ropeFactors;
    tensors.set(ropeFactorsName, { type: 'F32', shape: [shape.ropeFactors.length], data: () => new Uint8Array(buffer) });
  }
  for (const [name, value] of parameters) {
    const ggufName = ggufNameOf(name);
    if (ggufName === undefined) throw new ConfigError(`gguf: parameter "${name}" has no name in GGUF`);
    const stored =
      value.shape.length < 2 ? 'F32' : type === 'Q8_0' && (value.shape.at(-1) ?? 0) % writableTypes.Q8_0.block !== 0 ? 'F16' : type;
    const heads =
      isRotated(name) && shape.interleaved !== undefined ? shape.interleaved[name.includes('.q_proj.') ? 'heads' : 'kvHeads'] : 0;
    const data = (): Promise<Uint8Array> =>
      scope(() => {
        const dense = value instanceof PackedWeight ? value.unpack() : value.detach();
        return encodeTensor(heads > 0 ? interleaveRows(dense, heads) : dense, stored);
      });
    tensors.set(ggufName, { type: stored, shape: value.shape, data });
  }
  return tensors;
}

/** Whether a head that is tied to the embedding was changed apart from it. */
async function isChangedHead({ tiedTo, weight }: Linear): Promise<boolean> {
  if (tiedTo === undefined || !(weight instanceof PackedWeight)) return false;
  return (await scope(() => noGrad(() => sum(cast(notEqual(weight.unpack(), dense(tiedTo.weight)), 'f32'))).item())) > 0;
}
