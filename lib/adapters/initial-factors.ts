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
      ? `initial: "${folder}" holds an adapter of "${config.method.name}"; expected LoRA`
      : `initial: "${folder}" is still marked "${taken.name}", which would split the weights once more; expected init_lora_weights true, as PEFT's save_pretrained writes an initial adapter`,
  );
}

/** The error of a config that has nothing to look at, and so no use for what was found. */
export const noInitial = (method: string): ConfigError =>
  new ConfigError(`attach: "${method}" with these options looks at no weights or data before it starts; expected no "initial"`);

/**
 * The starts that an initialisation found before. Throws `AdapterError` where they are of other layers, ranks or scales than these; where the base stays as it is,
 * layers without factors get none and ranks are those found.
 */
export function* foundStarts(
  layers: readonly StartLayer[],
  { folder, config, tensors }: InitialFactors,
  { changesBase }: Pick<InitMethod<string, object>, 'changesBase'>,
  dtype: DType,
): Generator<Start> {
  const wrong = (path: string, what: string): AdapterError => new AdapterError(`initial: "${folder}" does not fit "${path}"; ${what}`);
  const left = new Set(tensors.keys());
  for (const { path, layer, rank, alpha, scale } of layers) {
    const [a, b] = ['lora_A.weight', 'lora_B.weight'].map((end) => {
      left.delete(`${path}.${end}`);
      return tensors.get(`${path}.${end}`);
    });
    if (a === undefined || b === undefined) {
      if (changesBase) throw wrong(path, `it has no factors for it${didYouMean(`${path}.lora_A.weight`, tensors.keys())}`);
      const { inFeatures, outFeatures } = layer;
      yield { path, ...unscoped(() => ({ a: zeros([0, inFeatures], { dtype }), b: zeros([outFeatures, 0], { dtype }) })) };
      continue;
    }
    const found = rankAndScale(config, path);
    const own = a.shape[0] ?? 0;
    if (own !== found.rank || (changesBase && own !== rank))
      throw wrong(path, `its rank is ${own}; expected ${own === found.rank ? rank : found.rank}`);
    if (changesBase && found.scale !== scale) throw wrong(path, `its scale (of alpha and rank) is ${found.scale}; expected ${scale}`);
    const copies = unscoped(() => scope(() => noGrad(() => ({ a: clone(cast(a, dtype)), b: clone(cast(b, dtype)) }))));
    const foundAlpha = fromPattern(config.alphaPattern, path, config.alpha, 'alphaPattern');
    yield { path, ...copies, ...(changesBase ? { base: 'residual' } : foundAlpha === alpha ? {} : { alpha: foundAlpha }) };
  }
  const [stray] = left;
  if (changesBase && stray !== undefined)
    throw new AdapterError(`initial: "${folder}" has factors for layers that are no targets; got "${stray}"`);
}
