import { ConfigError, FormatError } from '../../errors.js';
import { tensor } from '../../ops/create.js';
import type { Tensor } from '../../tensor.js';
import { flatName, pathFinder } from './module-names.js';
import { alphaOf, checkedPair, type FoundPair, type PortableAdapter, type PortablePair, pathIn, placeOf, rankOf } from './portable.js';

/** Prefixes of kohya's files and the part of a pipeline they mean. */
const components: Readonly<Record<string, string>> = {
  lora_unet: 'unet',
  lora_te: 'text_encoder',
  lora_te1: 'text_encoder',
  lora_te2: 'text_encoder_2',
  lora_te3: 'text_encoder_3',
  lora_transformer: 'transformer',
};

const pattern = /^(lora_(?:unet|te\d?|transformer))_(.+?)\.(lora_down\.weight|lora_up\.weight|alpha)$/;

/**
 * Reads tensors named `lora_unet_down_blocks_0_….lora_down.weight`, `.lora_up.weight`, `.alpha` (without it: the rank). The tensors stay the caller's.
 * Throws `FormatError` for pieces that are not plain LoRA.
 */
export async function readKohya(
  file: string,
  tensors: ReadonlyMap<string, Tensor>,
  modules: Iterable<string> | undefined,
): Promise<Omit<PortableAdapter, 'dispose'>> {
  const pathOf = pathFinder(file, modules);
  const matches = [...tensors].map(([name, value]) => {
    const [, prefix = '', flat = '', piece] = pattern.exec(name) ?? [];
    if (piece === undefined)
      throw new FormatError(`${file}: tensor "${name}" is more than plain LoRA; expected lora_down, lora_up and alpha only`);
    return { component: components[prefix] ?? prefix, flat, piece, value };
  });
  const adapted = [...new Set(matches.map(({ component }) => component))].sort();
  const found = new Map<string, FoundPair>();
  for (const { component, flat, piece, value } of matches) {
    const path = pathIn(adapted, component, pathOf(flat));
    const pair = found.get(path) ?? {};
    found.set(path, pair);
    if (piece === 'alpha') pair.alpha = Number((await value.data())[0]);
    else if (piece === 'lora_down.weight') pair.a = value;
    else pair.b = value;
  }
  const pairs = new Map<string, PortablePair>();
  for (const [path, pair] of found)
    pairs.set(
      path,
      checkedPair(file, path, pair, (rank) => (pair.alpha ?? rank) / rank),
    );
  return { pairs, components: adapted, baseModel: undefined };
}

/** The tensors and metadata of a kohya file. Throws `ConfigError` for embeddings, which the format has no place for. */
export function writeKohya(adapter: PortableAdapter): {
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly metadata: Readonly<Record<string, string>>;
} {
  const { pairs } = adapter;
  const tensors = new Map<string, Tensor>();
  const paths = new Map<string, string>();
  for (const [path, pair] of pairs) {
    if (pair.embedding) throw new ConfigError(`convert: kohya has no place for embeddings; got "${path}"`);
    const place = placeOf(adapter, path);
    const name = `${prefixOf(place.component, adapter)}_${flatName(place.path)}`;
    const other = paths.get(name);
    if (other !== undefined) throw new ConfigError(`convert: "${path}" and "${other}" have the same name in kohya's format`);
    paths.set(name, path);
    tensors.set(`${name}.lora_down.weight`, pair.a);
    tensors.set(`${name}.lora_up.weight`, pair.b);
    tensors.set(`${name}.alpha`, tensor(Float32Array.of(alphaOf(pair)), { shape: [] }));
  }
  const shared = (values: readonly number[]): string => (new Set(values).size === 1 ? String(values[0]) : 'Dynamic');
  const all = [...pairs.values()];
  return {
    tensors,
    metadata: {
      ss_network_module: 'networks.lora',
      ss_network_dim: shared(all.map(rankOf)),
      ss_network_alpha: shared(all.map((pair) => alphaOf(pair))),
    },
  };
}

/** Files of pipelines with two text encoders count them from 1. */
function prefixOf(component: string, adapter: PortableAdapter): string {
  const numbered = adapter.components.some((each) => /^text_encoder_\d$/.test(each));
  const found = Object.keys(components).find((key) => components[key] === component && !(numbered && key === 'lora_te'));
  if (found === undefined)
    throw new ConfigError(`convert: kohya has no prefix for "${component}"; expected one of ${Object.values(components).join(', ')}`);
  return found;
}
