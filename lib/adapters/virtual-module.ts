import { AdapterError, ConfigError } from '../errors.js';
import type { KeyValuePrefix } from '../nn/prefix.js';
import type { TokenShape, VirtualTokens } from '../nn/virtual-tokens.js';
import { narrow, permute, reshape } from '../ops/shape.js';
import type { RandomSource } from '../random.js';
import { Tensor } from '../tensor.js';
import { type AdapterForm, AdapterModule, type CommonConfig, type Placement, type PortableAdapter } from './adapter.js';
import { namedTensorsOf } from './adapter-table.js';
import type { PromptEncoder } from './prompt-encoder.js';

/** A table [T, W] of virtual tokens in front of every row: trained itself, or made by an encoder that is trained in its place. */
export abstract class VirtualModule extends AdapterModule {
  readonly count: number;
  readonly prompt_embeddings?: Tensor;
  readonly prompt_encoder?: PromptEncoder;
  override readonly random: RandomSource | undefined;

  constructor(count: number, table: Tensor | PromptEncoder) {
    super();
    this.count = count;
    if (table instanceof Tensor) this.prompt_embeddings = table;
    else this.prompt_encoder = table;
    this.random = table instanceof Tensor ? undefined : table.random;
  }

  override virtual(): VirtualTokens {
    return this;
  }

  /** [T, W], on the tape. */
  table(training: boolean): Tensor {
    return this.prompt_embeddings ?? (this.prompt_encoder as PromptEncoder).forward(training);
  }

  /** The table as files hold it. */
  published(): Tensor {
    return this.table(false);
  }
}

/** Rows of the table [T, D] are embeddings. */
export class PromptTokens extends VirtualModule implements VirtualTokens {
  embeddings(training: boolean): Tensor {
    return this.table(training);
  }
}

/** How rows of a table [T, 2 · layers · G · K] hold keys and values: by layer its keys and its values, or all keys and then all values. */
export type SliceOrder = 'layers' | 'keys-first';

/** Heads of keys and values and their width. Throws `ConfigError` where they do not divide the hidden size. */
export function headsOf(
  method: string,
  { hiddenSize, heads = 1, keyValueHeads = heads, headWidth }: TokenShape,
): { groups: number; width: number } {
  if (headWidth === undefined && hiddenSize % heads !== 0)
    throw new ConfigError(`${method}: the hidden size is no multiple of the heads; got ${hiddenSize} and ${heads}`);
  return { groups: keyValueHeads, width: headWidth ?? hiddenSize / heads };
}

/** Rows of the table are keys and values of all layers. */
export class PrefixTokens extends VirtualModule implements VirtualTokens {
  readonly #layers: number;
  readonly #groups: number;
  readonly #width: number;
  readonly #order: SliceOrder;

  constructor(count: number, table: Tensor | PromptEncoder, shape: TokenShape, order: SliceOrder) {
    super(count, table);
    const { groups, width } = headsOf('prefix', shape);
    this.#layers = shape.layers;
    this.#groups = groups;
    this.#width = width;
    this.#order = order;
  }

  prefixes(training: boolean): readonly KeyValuePrefix[] {
    const slices = permute(this.#slices(this.table(training)), [1, 0, 2, 3]);
    const layers = this.#layers;
    const slice = (number: number): Tensor => narrow(slices, 0, number, 1);
    return Array.from({ length: layers }, (_, i) =>
      this.#order === 'layers' ? { keys: slice(2 * i), values: slice(2 * i + 1) } : { keys: slice(i), values: slice(layers + i) },
    );
  }

  /** [T, 2 · layers, G, K]. */
  #slices(table: Tensor): Tensor {
    return reshape(table, [this.count, 2 * this.#layers, this.#groups, this.#width]);
  }

  /** In the order of layers. */
  override published(): Tensor {
    const table = super.published();
    if (this.#order === 'layers') return table;
    const byKind = reshape(table, [this.count, 2, this.#layers, this.#groups * this.#width]);
    return reshape(permute(byKind, [0, 2, 1, 3]), table.shape);
  }
}

/** The table as it is used, whatever made it. */
export function portableTable<Config extends CommonConfig>(
  config: Config,
  placements: readonly Placement[],
  form: AdapterForm,
): PortableAdapter<Config> {
  if (form !== 'published') throw new AdapterError(`save: virtual tokens are written in one form; got "${form}", expected "published"`);
  return {
    config,
    tensors: placements.flatMap((placement): [string, Tensor][] =>
      placement.module instanceof VirtualModule ? [['prompt_embeddings', placement.module.published()]] : namedTensorsOf(placement),
    ),
  };
}
