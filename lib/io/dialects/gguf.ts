import { ConfigError, FormatError } from '../../errors.js';
import { op } from '../../native.js';
import { cast, mul } from '../../ops/elementwise.js';
import { contiguous, transpose } from '../../ops/shape.js';
import { Tensor } from '../../tensor.js';
import type { GgufField } from '../gguf/encoder.js';
import { ggufNameOf, hfNameOf, isRotated } from '../gguf/names.js';
import { interleaveRows } from '../gguf/rotary-rows.js';
import { encodeTensor } from '../gguf/storage.js';
import { type GgufTensorBytes, writeGguf } from '../gguf/writer.js';
import { ggufShape } from '../gguf/writer-config.js';
import { readGguf } from '../gguf.js';
import type { JsonObject } from '../json.js';
import {
  alphaOf,
  checkedPair,
  type FoundPair,
  type PortableAdapter,
  type PortablePair,
  requireMatrices,
  requireUntied,
} from './portable.js';

const ggufTensor = op('ggufTensor');

export type AdapterGgufType = 'f32' | 'f16' | 'bf16';

/**
 * Writes a LoRA adapter as llama.cpp loads it: `NAME.lora_a` [R, K] and `NAME.lora_b` [N, R] for each adapted weight, with one alpha for all. llama.cpp scales
 * by alpha / R, so rsLoRA goes into alpha, and the B of a layer with another scale is multiplied. `config` is the base model's `config.json`: it names the
 * architecture and the heads of q and k, whose rows llama.cpp keeps in interleaved order.
 *
 * Throws `ConfigError` for modules without a GGUF name, convolutions, and heads and embeddings that are tied. Returns the number of tensors.
 */
export async function writeGgufAdapter(
  path: string,
  adapter: PortableAdapter,
  config: JsonObject,
  type: AdapterGgufType = 'f32',
): Promise<number> {
  requireMatrices(adapter, 'gguf', true);
  requireUntied(adapter, 'gguf', config);
  const { architecture, interleaved } = ggufShape(config);
  const stored = type.toUpperCase() as Uppercase<AdapterGgufType>;
  const alphas = [...adapter.pairs.values()].map((pair) => alphaOf(pair));
  // A zero would switch the scaling by rank off.
  const alpha = alphas.find((each) => each !== 0) ?? 1;
  const tensors = new Map<string, GgufTensorBytes>();
  for (const [path, pair] of adapter.pairs) {
    const name = ggufNameOf(`${path}.weight`);
    if (name === undefined) throw new ConfigError(`convert: gguf has no name for the module "${path}"`);
    const heads =
      interleaved !== undefined && isRotated(`${path}.weight`) ? interleaved[path.endsWith('.q_proj') ? 'heads' : 'kvHeads'] : 0;
    if (heads > 0 && (pair.b.shape[0] ?? 0) % (2 * heads) !== 0)
      throw new ConfigError(
        `convert: "${path}" does not fit the base model; got ${pair.b.shape[0]} rows, expected a multiple of ${2 * heads}`,
      );
    const factor = alphaOf(pair) / alpha;
    // llama.cpp looks rows of an embedding up by token.
    const a = (): Tensor => (pair.embedding ? contiguous(transpose(pair.a)) : pair.a);
    const b = (): Tensor => {
      const scaled = Math.abs(factor - 1) < 1e-12 ? pair.b : mul(cast(pair.b, 'f32'), factor);
      return heads > 0 ? interleaveRows(scaled, heads) : scaled;
    };
    tensors.set(`${name}.lora_a`, {
      type: stored,
      shape: pair.embedding ? [...pair.a.shape].reverse() : pair.a.shape,
      data: () => encodeTensor(a(), stored),
    });
    tensors.set(`${name}.lora_b`, { type: stored, shape: pair.b.shape, data: () => encodeTensor(b(), stored) });
  }
  const metadata = new Map<string, GgufField>([
    ['general.architecture', { type: 'string', value: architecture }],
    ['general.type', { type: 'string', value: 'adapter' }],
    ['adapter.type', { type: 'string', value: 'lora' }],
    ['adapter.lora.alpha', { type: 'f32', value: alpha }],
    ['general.quantization_version', { type: 'u32', value: 2 }],
  ]);
  await writeGguf(path, metadata, tensors);
  return tensors.size;
}

/**
 * Reads a GGUF adapter. `config` is the base model's: without it, q and k of a llama cannot be put back in order and are a `ConfigError`. The tensors returned
 * belong to the caller.
 */
export function readGgufAdapter(file: string, config: JsonObject | undefined): Omit<PortableAdapter, 'dispose'> {
  const header = readGguf(file);
  const { metadata } = header;
  if (metadata.get('general.type') !== 'adapter' || metadata.get('adapter.type') !== 'lora')
    throw new FormatError(
      `${file}: is no LoRA adapter; got general.type ${String(metadata.get('general.type'))}, adapter.type ${String(metadata.get('adapter.type'))}`,
    );
  if (metadata.has('adapter.alora.invocation_tokens'))
    throw new FormatError(`${file}: is an activated LoRA, which is more than plain LoRA`);
  const alpha = Number(metadata.get('adapter.lora.alpha') ?? 0);
  const architecture = String(metadata.get('general.architecture'));
  const shape = config === undefined ? undefined : ggufShape(config);
  if (shape !== undefined && shape.architecture !== architecture)
    throw new ConfigError(`${file}: belongs to architecture "${architecture}"; got a base model of "${shape.architecture}"`);
  const found = new Map<string, FoundPair>();
  for (const { name, type, shape: sizes, start } of header.tensors.values()) {
    const [, whole = '', letter] = /^(.+)\.lora_([ab])$/.exec(name) ?? [];
    const path = hfNameOf(whole)?.replace(/\.weight$/, '');
    if (letter === undefined || path === undefined) throw new FormatError(`${file}: tensor "${name}" belongs to no module that is known`);
    if (!type.readable) throw new FormatError(`${file}: tensor "${name}" has a type that cannot be read; got ${type.name}`);
    const rotated = architecture === 'llama' && letter === 'b' && isRotated(`${path}.weight`);
    if (rotated && shape?.interleaved === undefined)
      throw new ConfigError(
        `${file}: the rows of "${path}" are in interleaved order, and the number of heads is in the base model only (--model)`,
      );
    const heads = rotated ? (shape?.interleaved?.[path.endsWith('.q_proj') ? 'heads' : 'kvHeads'] ?? 0) : 0;
    const value = new Tensor(ggufTensor(file, header.fileBytes, start, type.id, sizes, heads));
    const pair = found.get(path) ?? {};
    found.set(path, pair);
    pair[letter as 'a' | 'b'] = path === 'model.embed_tokens' && letter === 'a' ? transpose(value) : value;
  }
  const pairs = new Map<string, PortablePair>();
  for (const [path, pair] of found)
    pairs.set(
      path,
      checkedPair(file, path, pair, (rank) => (alpha === 0 ? 1 : alpha / rank), path === 'model.embed_tokens'),
    );
  return { pairs, components: [], baseModel: undefined };
}
