import { fromPattern, type Pattern } from '../../adapters/patterns.js';
import { ConfigError, FormatError } from '../../errors.js';
import { cast, mul } from '../../ops/elementwise.js';
import type { Tensor } from '../../tensor.js';
import { isJsonObject } from '../json.js';
import { checkedPair, type FoundPair, type PortableAdapter, type PortablePair, pathIn, placeOf } from './portable.js';

const pattern =
  /^(unet|transformer|text_encoder(?:_\d)?)\.(.+?)\.(lora_A\.weight|lora_B\.weight|(?:lora|lora_linear_layer)\.(?:down|up)\.weight|alpha)$/;

/** Names of the first version, whose attention had `processor.to_q_lora.down.weight`, as those of the next. */
const modern = (name: string): string =>
  name
    .replace(/\.processor\.(to_[qkv])_lora\./, '.$1.lora.')
    .replace(/\.processor\.to_out_lora\./, '.to_out.0.lora.')
    .replace(/^(text_encoder.*\.self_attn)\.to_([qkv]|out)_lora\./, '$1.$2_proj.lora.');

const kMetadata = 'lora_adapter_metadata';

/** Alpha by path from the config in the metadata of newer files; undefined where it says nothing. */
function alphas(
  file: string,
  component: string,
  metadata: Readonly<Record<string, string>>,
): (path: string, rank: number) => number | undefined {
  const text = metadata[kMetadata];
  if (text === undefined) return () => undefined;
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch {
    throw new FormatError(`${file}: the metadata "${kMetadata}" is not JSON`);
  }
  if (!isJsonObject(config)) throw new FormatError(`${file}: the metadata "${kMetadata}" must be an object`);
  const value = (key: string): unknown => config[`${component}.${key}`];
  if (value('use_dora') === true) throw new FormatError(`${file}: is a DoRA adapter, which is more than plain LoRA`);
  const alpha = value('lora_alpha');
  const by = value('alpha_pattern');
  if (typeof alpha !== 'number') return () => undefined;
  return (path, rank) => {
    const own = fromPattern(isJsonObject(by) ? (by as Pattern) : {}, path, alpha, 'alpha_pattern');
    return value('use_rslora') === true ? own * Math.sqrt(rank) : own;
  };
}

/**
 * Reads a LoRA file of diffusers: `unet.PATH.lora_A.weight` or the older `….lora.down.weight`, with an alpha in the file or in its metadata (without one: the
 * rank). The tensors stay the caller's. Throws `FormatError` for what is more than plain LoRA.
 */
export async function readDiffusers(
  file: string,
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Readonly<Record<string, string>>,
): Promise<Omit<PortableAdapter, 'dispose'>> {
  const networks = new Map<string, Map<string, FoundPair>>();
  for (const [name, value] of tensors) {
    const [, component = '', path = '', piece] = pattern.exec(modern(name)) ?? [];
    if (piece === undefined)
      throw new FormatError(`${file}: tensor "${name}" is more than plain LoRA; expected lora_A, lora_B and alpha only`);
    const found = networks.get(component) ?? new Map<string, FoundPair>();
    networks.set(component, found);
    const pair = found.get(path) ?? {};
    found.set(path, pair);
    if (piece === 'alpha') pair.alpha = Number((await value.data())[0]);
    else pair[piece === 'lora_A.weight' || piece.endsWith('down.weight') ? 'a' : 'b'] = value;
  }
  const components = [...networks.keys()].sort();
  const pairs = new Map<string, PortablePair>();
  for (const [component, found] of networks) {
    const configured = alphas(file, component, metadata);
    for (const [path, pair] of found)
      pairs.set(
        pathIn(components, component, path),
        checkedPair(file, path, pair, (rank) => (pair.alpha ?? configured(path, rank) ?? rank) / rank),
      );
  }
  return { pairs, components, baseModel: undefined };
}

/**
 * The tensors of a diffusers file. Its readers agree on no place for alpha (a tensor, the metadata, or none), so another scale than 1 goes into B. Throws
 * `ConfigError` for embeddings.
 */
export function writeDiffusers(adapter: PortableAdapter): ReadonlyMap<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  for (const [whole, pair] of adapter.pairs) {
    if (pair.embedding) throw new ConfigError(`convert: diffusers has no place for embeddings; got "${whole}"`);
    const { component, path } = placeOf(adapter, whole);
    tensors.set(`${component}.${path}.lora_A.weight`, pair.a);
    tensors.set(`${component}.${path}.lora_B.weight`, scaledB(pair));
  }
  return tensors;
}

const scaledB = ({ b, scale }: PortablePair): Tensor => (scale === 1 ? b : cast(mul(cast(b, 'f32'), scale), b.dtype));
