import { AdapterError, ConfigError, didYouMean } from '../errors.js';
import type { InitMethod, Start, StartLayer } from '../inits/init.js';
import { readPeftFolder } from '../io/peft.js';
import { zeros } from '../ops/create.js';
import { cast, clone } from '../ops/elementwise.js';
import { noGrad, scope, unscoped } from '../scope.js';
import type { DType, Tensor } from '../tensor.js';
import { rankAndScale } from './lora.js';
import type { LoraConfig } from './lora-config.js';
import { fromPattern } from './patterns.js';

/** Factors that an initialisation found before, as a PEFT folder of LoRA holds them. Owns its tensors. */
export interface InitialFactors {
  readonly folder: string;
  readonly config: LoraConfig;
  /** By name in a checkpoint. */
  readonly tensors: ReadonlyMap<string, Tensor>;
}

/** Reads such a folder. Throws `AdapterError` where its factors mean something else: another method, or weights that are to be split first. */
export async function readInitialFactors(folder: string): Promise<InitialFactors> {
  const { config, tensors } = await readPeftFolder(folder);
  const taken = config.method.takes?.(config.config);
  if (config.method.name === 'lora' && taken === undefined) return { folder, config: config.config as LoraConfig, tensors };
  for (const tensor of tensors.values()) tensor.dispose();
  throw new AdapterError(
    taken === undefined
      ? `attach: initial "${folder}" holds another kind of adapter; got "${config.method.name}", expected LoRA`
      : `attach: initial "${folder}" would split the weights once more; got init_lora_weights "${taken.name}", expected true, as PEFT's save_pretrained writes an initial adapter`,
  );
}

/** The error of a config that has nothing to look at, and so no use for what was found. */
export const noInitial = (method: string): ConfigError =>
  new ConfigError(`attach: "${method}" with these options looks at no weights or data before it starts; expected no "initial"`);

const isFactor = (name: string): boolean => /\.lora_[AB]\.weight$/.test(name);

/**
 * The starts that an initialisation found before; what else was trained beside its factors is left out. Throws `AdapterError` where they are of other layers, ranks
 * or scales than these; where the base stays as it is, layers without factors get none and ranks are those found.
 */
export function* foundStarts(
  layers: readonly StartLayer[],
  { folder, config, tensors }: InitialFactors,
  { changesBase }: Pick<InitMethod<string, object>, 'changesBase'>,
  dtype: DType,
): Generator<Start> {
  const misfit = (where: string, got: string, expected: string): AdapterError =>
    new AdapterError(`attach: initial "${folder}" does not fit ${where}; got ${got}, expected ${expected}`);
  const left = new Set([...tensors.keys()].filter(isFactor));
  if (!layers.some(({ path }) => left.has(`${path}.lora_A.weight`)))
    throw misfit(
      'any target',
      left.size === 0 ? 'no factors' : `"${[...left][0]}"`,
      `"${layers[0]?.path}.lora_A.weight" or another target's`,
    );
  for (const { path, layer, rank, alpha, scale } of layers) {
    const names = [`${path}.lora_A.weight`, `${path}.lora_B.weight`];
    const [a, b] = names.map((name) => (left.delete(name) ? tensors.get(name) : undefined));
    if (a === undefined || b === undefined) {
      const missing = names.filter((name) => !tensors.has(name));
      if (changesBase || missing.length < names.length)
        throw misfit(`"${path}"`, `no "${missing[0]}"`, `both factors${didYouMean(missing[0] as string, tensors.keys())}`);
      const { inFeatures, outFeatures } = layer;
      yield { path, ...unscoped(() => ({ a: zeros([0, inFeatures], { dtype }), b: zeros([outFeatures, 0], { dtype }) })) };
      continue;
    }
    const found = rankAndScale(config, path);
    const own = a.shape[0] ?? 0;
    if (own !== found.rank || (changesBase && own !== rank))
      throw misfit(`"${path}"`, `rank ${own}`, String(own === found.rank ? rank : found.rank));
    if (changesBase && found.scale !== scale) throw misfit(`"${path}"`, `scale ${found.scale} (of alpha and rank)`, String(scale));
    const copies = unscoped(() => scope(() => noGrad(() => ({ a: clone(cast(a, dtype)), b: clone(cast(b, dtype)) }))));
    const foundAlpha = fromPattern(config.alphaPattern, path, config.alpha, 'alphaPattern');
    yield { path, ...copies, ...(changesBase ? { base: 'residual' } : foundAlpha === alpha ? {} : { alpha: foundAlpha }) };
  }
  const [stray] = left;
  if (stray !== undefined) throw misfit('the targets', `factors for a layer that is none of them ("${stray}")`, 'none');
}
