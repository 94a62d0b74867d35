import { lora, rankAndScale } from '../../adapters/lora.js';
import type { LoraConfig } from '../../adapters/lora-config.js';
import { resolveOptions } from '../../adapters/resolve-config.js';
import { FormatError } from '../../errors.js';
import type { Tensor } from '../../tensor.js';
import type { PeftFolder } from '../peft.js';
import { writePeftConfig } from '../peft-config.js';
import { alphaOf, checkedPair, type FoundPair, type PortableAdapter, type PortablePair, rankOf, requireOneNetwork } from './portable.js';

const pattern = /^(.+)\.(?:lora_(A|B)\.weight|lora_(embedding)_(A|B))$/;

/**
 * The pairs of a PEFT folder. Throws `FormatError` for an adapter that is more than plain LoRA or for weights that were split first, and
 * where ranks in the file and the config differ.
 */
export function readPeftPairs(file: string, { config, tensors }: PeftFolder): Omit<PortableAdapter, 'dispose'> {
  if (config.method !== lora) throw new FormatError(`${file}: is an adapter of type "${config.method.name}"; expected plain LoRA`);
  const taken = lora.takes(config.config as LoraConfig);
  if (taken !== undefined) {
    throw new FormatError(
      `${file}: is for weights that "${taken.name}" has changed; load it onto its model (loadAdapter) and save it, ` +
        'which writes plain LoRA for the published ones',
    );
  }
  const found = new Map<string, FoundPair & { embedding: boolean }>();
  for (const [name, value] of tensors) {
    const [, path, linear, embedding, other] = pattern.exec(name) ?? [];
    if (path === undefined) {
      if (name.endsWith('.base_layer.weight')) continue;
      throw new FormatError(`${file}: tensor "${name}" is more than plain LoRA; expected lora_A and lora_B only`);
    }
    const pair = found.get(path) ?? { embedding: embedding !== undefined };
    found.set(path, pair);
    pair[(linear ?? other) === 'A' ? 'a' : 'b'] = value;
  }
  const pairs = new Map<string, PortablePair>();
  for (const [path, pair] of found) {
    const { rank, scale } = rankAndScale(config.config as LoraConfig, path);
    const checked = checkedPair(file, path, pair, () => scale, pair.embedding);
    if (rankOf(checked) !== rank)
      throw new FormatError(`${file}: the rank of "${path}" differs from the config; got ${rankOf(checked)}, expected ${rank}`);
    pairs.set(path, checked);
  }
  const base = config.file.base_model_name_or_path;
  return { pairs, components: [], baseModel: typeof base === 'string' ? base : undefined };
}

function mostCommon(values: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].reduce((best, entry) => (entry[1] > best[1] ? entry : best))[0];
}

/**
 * The tensors and the text of `adapter_config.json`; ranks and alphas that are not the usual one go to the patterns. Throws `ConfigError`
 * for several networks.
 */
export function writePeftPairs(adapter: PortableAdapter): {
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly config: string;
} {
  requireOneNetwork(adapter, 'peft');
  const { pairs, baseModel } = adapter;
  const tensors = new Map<string, Tensor>();
  const ranks = new Map<string, number>();
  const alphas = new Map<string, number>();
  for (const [path, pair] of pairs) {
    const [left, right] = pair.embedding ? ['lora_embedding_A', 'lora_embedding_B'] : ['lora_A.weight', 'lora_B.weight'];
    tensors.set(`base_model.model.${path}.${left}`, pair.a);
    tensors.set(`base_model.model.${path}.${right}`, pair.b);
    ranks.set(path, rankOf(pair));
    alphas.set(path, alphaOf(pair));
  }
  const rank = mostCommon([...ranks.values()]);
  const alpha = mostCommon([...alphas.values()]);
  const others = (values: ReadonlyMap<string, number>, usual: number) =>
    Object.fromEntries([...values].filter(([, value]) => value !== usual).map(([path, value]) => [`^${path}`, value]));
  const resolved = resolveOptions(lora, {
    rank,
    alpha,
    rankPattern: others(ranks, rank),
    alphaPattern: others(alphas, alpha),
    targets: [...pairs.keys()],
  });
  return { tensors, config: writePeftConfig({ ...resolved, targets: [...pairs.keys()], baseModel }) };
}
