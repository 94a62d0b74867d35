import { ConfigError, FormatError } from '../../errors.js';
import { tensor } from '../../ops/create.js';
import { cast, mul } from '../../ops/elementwise.js';
import { concat } from '../../ops/join.js';
import { contiguous, transpose } from '../../ops/shape.js';
import type { Tensor } from '../../tensor.js';
import { isJsonObject, type JsonObject } from '../json.js';
import {
  checkedPair,
  type FoundPair,
  isEmbeddingPath,
  type PortableAdapter,
  type PortablePair,
  rankOf,
  requireMatrices,
  requireUntied,
} from './portable.js';

/**
 * Reads mlx-lm's tensors `PATH.lora_a` [inputs, R] and `PATH.lora_b` [R, outputs], transposed against PEFT, with the scale of `lora_parameters`. The tensors
 * returned are views of those given. `base` is the base model's `config.json`: in mlx-lm an adapted embedding that is tied adapts the head too, which here is
 * a pair of its own. Throws `FormatError` for DoRA, full fine-tuning and a missing scale, `ConfigError` for an embedding without `base`.
 */
export function readMlx(
  file: string,
  tensors: ReadonlyMap<string, Tensor>,
  config: JsonObject,
  base: JsonObject | undefined,
): Omit<PortableAdapter, 'dispose'> {
  const type = config.fine_tune_type ?? 'lora';
  if (type !== 'lora') throw new FormatError(`${file}: "fine_tune_type" must be "lora"; got ${JSON.stringify(type)}`);
  const parameters = config.lora_parameters;
  const scale = isJsonObject(parameters) ? parameters.scale : undefined;
  if (typeof scale !== 'number')
    throw new FormatError(`${file}: "lora_parameters.scale" must be a number; got ${JSON.stringify(scale) ?? 'nothing'}`);
  const found = new Map<string, FoundPair>();
  for (const [name, value] of tensors) {
    const [, path, letter] = /^(.+)\.lora_([ab])$/.exec(name) ?? [];
    if (path === undefined || value.shape.length !== 2)
      throw new FormatError(
        `${file}: tensor "${name}" is more than plain LoRA; got [${value.shape.join(', ')}], expected lora_a and lora_b with two dimensions`,
      );
    const pair = found.get(path) ?? {};
    found.set(path, pair);
    pair[letter as 'a' | 'b'] = transpose(value);
  }
  const pairs = new Map<string, PortablePair>();
  for (const [path, pieces] of found) {
    const pair = checkedPair(file, path, pieces, () => scale, isEmbeddingPath(path));
    pairs.set(path, pair);
    if (!pair.embedding) continue;
    if (base === undefined)
      throw new ConfigError(`${file}: "${path}" is adapted, in mlx-lm with a tied head too; the base model tells whether it is (--model)`);
    if (base.tie_word_embeddings === true) pairs.set('lm_head', { a: transpose(pair.b), b: transpose(pair.a), scale, embedding: false });
  }
  return { pairs, components: [], baseModel: typeof config.model === 'string' ? config.model : undefined };
}

/**
 * The tensors and the config of an mlx-lm adapter. The format knows one rank and one scale: smaller pairs get rows of zeros, and a differing scale goes into B.
 * Throws `ConfigError` for convolutions, and for heads and embeddings unless `base`, the base model's `config.json`, says that they are not tied.
 */
export function writeMlx(
  adapter: PortableAdapter,
  base: JsonObject | undefined,
): { readonly tensors: ReadonlyMap<string, Tensor>; readonly config: JsonObject } {
  requireMatrices(adapter, 'mlx', true);
  requireUntied(adapter, 'mlx', base);
  const all = [...adapter.pairs.values()];
  const rank = Math.max(...all.map(rankOf));
  const scale = all.find((pair) => pair.scale !== 0)?.scale ?? 1;
  const tensors = new Map<string, Tensor>();
  for (const [path, pair] of adapter.pairs) {
    const missing = rank - rankOf(pair);
    const factor = pair.scale / scale;
    const b = factor === 1 ? pair.b : mul(cast(pair.b, 'f32'), factor);
    tensors.set(`${path}.lora_a`, contiguous(padded(transpose(pair.a), 1, missing)));
    tensors.set(`${path}.lora_b`, contiguous(padded(transpose(b), 0, missing)));
  }
  const keys = [...new Set([...adapter.pairs.keys()].map((path) => path.replace(/^.*?\blayers\.\d+\./, '')))].sort();
  const config = {
    fine_tune_type: 'lora',
    ...(adapter.baseModel === undefined ? {} : { model: adapter.baseModel }),
    num_layers: -1,
    lora_parameters: { rank, scale, dropout: 0, keys },
  };
  return { tensors, config };
}

function padded(x: Tensor, dim: 0 | 1, missing: number): Tensor {
  if (missing === 0) return x;
  const shape = x.shape.map((size, at) => (at === dim ? missing : size));
  const zeros = tensor(new Float32Array(shape.reduce((product, size) => product * size, 1)), { shape, dtype: x.dtype });
  return concat([x, zeros], dim);
}
