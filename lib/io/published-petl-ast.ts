import { join } from 'node:path';
import type { AnyMethod, CommonConfig } from '../adapters/adapter.js';
import { blockAdapter } from '../adapters/block-adapter.js';
import type { BlockAdapterConfig } from '../adapters/block-adapter-config.js';
import { deepPrompt } from '../adapters/deep-prompt.js';
import { lora } from '../adapters/lora.js';
import { prefix } from '../adapters/prefix.js';
import { FormatError } from '../errors.js';
import { concat } from '../ops/join.js';
import { reshape } from '../ops/shape.js';
import { noGrad, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { makeFolder, writeFileAtomically } from './atomic-file.js';
import { fileName } from './peft.js';
import { writePeftConfig } from './peft-config.js';
import { loadSafetensors, saveSafetensors } from './safetensors.js';

export interface ConvertPetlAstOptions extends Partial<Pick<BlockAdapterConfig, 'placement' | 'residual'>> {
  /** Alpha of LoRA by rank, s · R. Default 0.125 R. */
  readonly alpha?: number;
  /** Path of the encoder in the model. Default that of AST in transformers. */
  readonly encoder?: string;
  /** What `base_model_name_or_path` says. */
  readonly baseModel?: string;
}

/** What a file holds, in the terms of this library. */
interface Found {
  readonly method: AnyMethod;
  readonly config: CommonConfig;
  readonly targets: readonly string[];
  readonly tensors: Readonly<Record<string, Tensor>>;
}

/** The tensors of a state dict, by name without what comes before the encoder. */
type Stored = ReadonlyMap<string, Tensor>;

const kParts: Readonly<Record<string, string>> = {
  linear_downsample: 'down',
  linear_upsample: 'up',
  pwise_conv1: 'pointwise1',
  dwise_conv: 'depthwise',
  bnorm: 'norm',
  pwise_conv2: 'pointwise2',
};
const kAdapter = /^encoder\.layer\.(\d+)\.adapter_module_(FFN|MHSA)\.(\w+)\.(\w+)$/;
const kLora = /^encoder\.layer\.(\d+)\.attention\.attention\.lora_(down|up)_(q|v)\.weight$/;
const kPrefix = /^encoder\.layer\.(\d+)\.attention\.attention\.(key|value)_tokens$/;

const last = (x: Tensor): number => x.shape.at(-1) ?? 0;

/** Those of the norm behind the last block. */
const finalNorm = (stored: Stored, encoder: string): Record<string, Tensor> =>
  Object.fromEntries(
    [...stored].filter(([name]) => /^layernorm\.(weight|bias)$/.test(name)).map(([name, value]) => [`${encoder}.${name}`, value]),
  );

function adapters(
  stored: Stored,
  encoder: string,
  { placement = 'parallel', residual = 'auto' }: ConvertPetlAstOptions,
): Found | undefined {
  const tensors: Record<string, Tensor> = {};
  const blocks = new Set<string>();
  const points = new Set<string>();
  for (const [name, value] of stored) {
    const [, number = '', point = '', part = '', end = ''] = kAdapter.exec(name) ?? [];
    const own = kParts[part];
    if (own === undefined) continue;
    blocks.add(number);
    points.add(point);
    const isPointwise = part.startsWith('pwise') && end === 'weight';
    const at = `${encoder}.encoder.layer.${number}.adapter_${point === 'FFN' ? 'mlp' : 'attention'}`;
    tensors[`${at}.${own}.${end}`] = isPointwise ? reshape(value, value.shape.slice(0, 2)) : value;
  }
  if (blocks.size === 0) return undefined;
  for (const [name, value] of stored) {
    const [, number = '', norm = ''] = /^encoder\.layer\.(\d+)\.layernorm_(before|after)\.(?:weight|bias)$/.exec(name) ?? [];
    if (blocks.has(number) && points.has(norm === 'before' ? 'MHSA' : 'FFN')) tensors[`${encoder}.${name}`] = value;
  }
  const found = (end: string): Tensor | undefined => Object.entries(tensors).find(([name]) => name.endsWith(end))?.[1];
  const [depthwise, up] = [found('.depthwise.weight'), found('.up.weight') ?? found('.pointwise2.weight')];
  const config: BlockAdapterConfig = {
    ...blockAdapter.defaults,
    sublayers: points.size === 2 ? 'both' : points.has('FFN') ? 'mlp' : 'attention',
    placement,
    residual,
    block: depthwise === undefined ? 'bottleneck' : 'conformer',
    kernelSize: depthwise === undefined ? blockAdapter.defaults.kernelSize : last(depthwise),
    width: up === undefined ? null : last(up),
  };
  const targets = [...blocks].map((number) => `${encoder}.encoder.layer.${number}`);
  return { method: blockAdapter, config, targets, tensors: { ...tensors, ...finalNorm(stored, encoder) } };
}

function prompts(stored: Stored, encoder: string): Found | undefined {
  const first = stored.get('prompt_embeddings');
  if (first === undefined) return undefined;
  const others = stored.get('deep_prompt_embeddings');
  const config = { ...deepPrompt.defaults, virtualTokens: first.shape[1] ?? 0, deep: others !== undefined };
  const tensors = { prompt_embeddings: first, ...(others && { deep_prompt_embeddings: others }), ...finalNorm(stored, encoder) };
  return { method: deepPrompt, config, targets: [], tensors };
}

/** Keys and values [1, P, D] of each layer side by side, [P, 2 · layers · D]. */
function prefixes(stored: Stored): Found | undefined {
  const slices: Tensor[] = [];
  for (const [name, value] of stored) {
    const [, number, kind] = kPrefix.exec(name) ?? [];
    if (kind !== undefined) slices[2 * Number(number) + (kind === 'key' ? 0 : 1)] = reshape(value, value.shape.slice(1));
  }
  if (slices.length === 0) return undefined;
  const config = { ...prefix.defaults, virtualTokens: slices[0]?.shape[0] ?? 0 };
  return { method: prefix, config, targets: [], tensors: { prompt_embeddings: concat(slices, 1) } };
}

function factors(stored: Stored, encoder: string, { alpha }: ConvertPetlAstOptions): Found | undefined {
  const tensors: Record<string, Tensor> = {};
  let rank = 0;
  for (const [name, value] of stored) {
    const [, number, side, layer] = kLora.exec(name) ?? [];
    if (side === undefined) continue;
    if (side === 'down') rank = value.shape[0] ?? 0;
    const path = `${encoder}.encoder.layer.${number}.attention.attention.${layer === 'q' ? 'query' : 'value'}`;
    tensors[`${path}.lora_${side === 'down' ? 'A' : 'B'}.weight`] = value;
  }
  if (rank === 0) return undefined;
  const config = { ...lora.defaults, rank, alpha: alpha ?? rank / 8 };
  return { method: lora, config, targets: ['query', 'value'], tensors };
}

/**
 * Writes what a state dict of the program of "Parameter-Efficient Transfer Learning of Audio Spectrogram Transformers", saved as safetensors, trained in an encoder as
 * a folder that `loadAdapter` reads, and returns the method. The head is not taken over.
 * Throws `FormatError` for a file without such tensors.
 */
export async function convertPetlAst(source: string, folder: string, options: ConvertPetlAstOptions = {}): Promise<string> {
  const { encoder = 'audio_spectrogram_transformer', baseModel } = options;
  return scope(async () => {
    const whole = await loadSafetensors(source);
    const stored: Stored = new Map(
      [...whole].map(([name, value]) => [name.replace(/^.*?(?=encoder\.layer\.|layernorm\.|(deep_)?prompt_embeddings$)/, ''), value]),
    );
    const found = noGrad(
      () => adapters(stored, encoder, options) ?? prompts(stored, encoder) ?? prefixes(stored) ?? factors(stored, encoder, options),
    );
    if (found === undefined)
      throw new FormatError(
        `${source}: no tensor is called as in files of PETL_AST; expected such as "encoder.layer.0.adapter_module_FFN.linear_downsample.weight"`,
      );
    const { method, config, targets, tensors } = found;
    await makeFolder(folder);
    const named = Object.fromEntries(Object.entries(tensors).map(([name, value]) => [fileName(name, method), value]));
    await saveSafetensors(join(folder, 'adapter_model.safetensors'), named);
    await writeFileAtomically(join(folder, 'adapter_config.json'), writePeftConfig({ method, config, targets, baseModel, taskType: null }));
    return method.name;
  });
}
