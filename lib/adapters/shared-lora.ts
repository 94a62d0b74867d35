import { AdapterError, ConfigError } from '../errors.js';
import { ownFormat } from '../io/own-format.js';
import { Linear } from '../nn/linear.js';
import type { LowRankFactors } from '../ops/lowrank.js';
import {
  type AdapterForm,
  type AdapterMethod,
  AdapterModule,
  type CommonConfig,
  type CreateContext,
  commonDefaults,
  type LayerParameters,
  type Placement,
  type PortableAdapter,
  type Preparation,
  type Target,
} from './adapter.js';
import { namedTensors, tensorsOf } from './adapter-table.js';
import { type BranchInit, BranchStart } from './branch-start.js';
import { lora } from './lora.js';
import { type LoraConfig, loraDefaults } from './lora-config.js';
import { LoraLinear } from './lora-linear.js';
import { requireCount, requireDropout, requireOneOf, wrongOption } from './option-checks.js';

/** Options of LoRA with shared factors; each is optional in `attach`. */
export interface SharedLoraConfig extends CommonConfig {
  /** R. Default 12. */
  rank: number;
  /** The change is scaled by alpha / rank. Default 1.5. */
  alpha: number;
  /** Probability of dropping an element of the input in training, drawn for each layer. Default 0. */
  dropout: number;
  /** `zero_up`: B zero; `trunc_normal_0.02`: both normal with deviation 0.02. Default `zero_up`. */
  init: Exclude<BranchInit, 'zero'>;
}

export const sharedLoraDefaults: SharedLoraConfig = { ...commonDefaults, rank: 12, alpha: 1.5, dropout: 0, init: 'zero_up' };

const kName = 'shared-lora';

function check({ rank, alpha, dropout, init }: SharedLoraConfig): void {
  requireCount(kName, 'rank', rank);
  if (!(typeof alpha === 'number' && alpha > 0 && Number.isFinite(alpha))) throw wrongOption(kName, 'alpha', alpha, 'a positive number');
  requireDropout(kName, dropout);
  requireOneOf(kName, 'init', init, ['zero_up', 'trunc_normal_0.02']);
}

/** The factors of another layer beside this one: they belong to that layer, which also holds their strength. */
export class BorrowedFactors extends AdapterModule {
  readonly #owner: LoraLinear;

  constructor(owner: LoraLinear) {
    super();
    this.#owner = owner;
  }

  get owner(): LoraLinear {
    return this.#owner;
  }

  override lowRank(training: boolean): LowRankFactors {
    return this.#owner.lowRank(training);
  }

  override merge(pristine: LayerParameters, merged: LayerParameters): LayerParameters {
    return this.#owner.merge(pristine, merged);
  }

  override unmerge(merged: LayerParameters): LayerParameters {
    return this.#owner.unmerge(merged);
  }
}

/** Where the layers lie that share their factors. */
const groupOf = (path: string): string => path.slice(0, path.lastIndexOf('.'));

function pairOf({ path, layer }: Target, config: SharedLoraConfig, context: CreateContext): LoraLinear {
  const { inFeatures, outFeatures } = layer as Linear;
  const { rank, alpha, dropout } = config;
  const start = new BranchStart(context, path, config.init);
  const [a, b] = [start.matrix('lora_A', 'first', [rank, inFeatures]), start.matrix('lora_B', 'last', [outFeatures, rank])];
  return new LoraLinear(a, b, undefined, { scale: alpha / rank, dropout, seed: context.seed, path });
}

async function prepare(
  targets: readonly Target[],
  config: SharedLoraConfig,
  context: CreateContext,
): Promise<Preparation<SharedLoraConfig>> {
  const first = new Map<string, Target>();
  for (const target of targets) {
    const { path, layer, shape } = target;
    if (!(layer instanceof Linear))
      throw new ConfigError(`${kName}: cannot adapt "${path}"; got ${layer.constructor.name}, expected a linear layer`);
    const leader = first.get(groupOf(path)) ?? target;
    first.set(groupOf(path), leader);
    if (shape?.join() !== leader.shape?.join())
      throw new ConfigError(`${kName}: "${path}" cannot share the factors of "${leader.path}"; got [${shape}], expected [${leader.shape}]`);
  }
  const owners = new Map<string, LoraLinear>();
  return {
    config,
    targets,
    create: (target) => {
      const owner = owners.get(groupOf(target.path));
      if (owner !== undefined) return new BorrowedFactors(owner);
      const own = pairOf(target, config, context);
      owners.set(groupOf(target.path), own);
      return own;
    },
    dispose: () => {},
  };
}

/** As trained, or as plain LoRA in which every layer has a copy of the factors. */
function portable(config: SharedLoraConfig, placements: readonly Placement[], form: AdapterForm): PortableAdapter<CommonConfig> {
  if (form !== 'lora' && form !== 'published')
    throw new AdapterError(`save: an adapter of "${kName}" has no form "${form}"; expected "published" or "lora"`);
  const tensors = placements.flatMap(({ path, module }) =>
    namedTensors(path, tensorsOf(form === 'lora' && module instanceof BorrowedFactors ? module.owner : module)),
  );
  if (form === 'published') return { config, tensors };
  const { init: _, ...shared } = config;
  return { method: lora, config: { ...loraDefaults, ...shared } satisfies LoraConfig, tensors };
}

/**
 * LoRA whose pair of factors is shared by the layers of one attention, by default its query and key.
 * "Parameter-Efficient Transfer Learning of Audio Spectrogram Transformers".
 *
 * ```ts
 * const tuned = await attach(model, { type: 'shared-lora', rank: 12, alpha: 1.5 });
 * ```
 */
export const sharedLora = {
  name: kName,
  prefix: 'lora_',
  peftType: 'SHARED_LORA',
  peft: ownFormat(sharedLoraDefaults),
  defaults: sharedLoraDefaults,
  check,
  startsAsIdentity: ({ init }) => init === 'zero_up',
  roles: ['attention.query', 'attention.key'],
  kinds: ['linear'],
  prepare,
  portable,
} as const satisfies AdapterMethod<'shared-lora', SharedLoraConfig>;
