import { fromPattern, type Pattern } from '../../adapters/patterns.js';
import { FormatError } from '../../errors.js';
import { tensor } from '../../ops/create.js';
import type { Tensor } from '../../tensor.js';
import { isJsonObject } from '../json.js';
import { alphaOf, checkedPair, type FoundPair, type PortableAdapter, type PortablePair, requireMatrices } from './portable.js';

const pattern =
  /^(unet|transformer|text_encoder(?:_\d)?)\.(.+?)\.(lora_A\.weight|lora_B\.weight|lora\.down\.weight|lora\.up\.weight|alpha)$/;
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
 * rank). The tensors stay the caller's. Throws `FormatError` for what is more than plain LoRA and for several pipeline parts.
 */
export async function readDiffusers(
  file: string,
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Readonly<Record<string, string>>,
): Promise<Omit<PortableAdapter, 'dispose'>> {
  const found = new Map<string, FoundPair>();
  const components = new Set<string>();
  for (const [name, value] of tensors) {
    const [, component = '', path = '', piece] = pattern.exec(name) ?? [];
    if (piece === undefined)
      throw new FormatError(`${file}: tensor "${name}" is more than plain LoRA; expected lora_A, lora_B and alpha only`);
    components.add(component);
    const pair = found.get(path) ?? {};
    found.set(path, pair);
    if (piece === 'alpha') pair.alpha = Number((await value.data())[0]);
    else pair[piece === 'lora_A.weight' || piece === 'lora.down.weight' ? 'a' : 'b'] = value;
  }
  const [component = '', other] = components;
  if (other !== undefined) throw new FormatError(`${file}: adapts several networks; got ${component} and ${other}, expected one`);
  const configured = alphas(file, component, metadata);
  const pairs = new Map<string, PortablePair>();
  for (const [path, pair] of found)
    pairs.set(
      path,
      checkedPair(file, path, pair, (rank) => (pair.alpha ?? configured(path, rank) ?? rank) / rank),
    );
  return { pairs, component, baseModel: undefined };
}

/** The tensors of a diffusers file, with an alpha for each pair. Throws `ConfigError` for embeddings. */
export function writeDiffusers(adapter: PortableAdapter): ReadonlyMap<string, Tensor> {
  const matrices = new Map([...adapter.pairs].filter(([, pair]) => pair.embedding));
  requireMatrices({ ...adapter, pairs: matrices }, 'diffusers', false);
  const tensors = new Map<string, Tensor>();
  for (const [path, pair] of adapter.pairs) {
    const name = `${adapter.component ?? 'transformer'}.${path}`;
    tensors.set(`${name}.lora_A.weight`, pair.a);
    tensors.set(`${name}.lora_B.weight`, pair.b);
    tensors.set(`${name}.alpha`, tensor(Float32Array.of(alphaOf(pair)), { shape: [] }));
  }
  return tensors;
}
