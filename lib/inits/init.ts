import type { LoraConfig } from '../adapters/lora-config.js';
import type { JsonObject } from '../io/json.js';
import type { Linear } from '../nn/linear.js';
import type { Module } from '../nn/module.js';
import type { PackedWeight } from '../ops/linalg.js';
import type { DType, Tensor } from '../tensor.js';
import type { Calibration } from './calibration.js';

/** A linear layer y = x Wᵀ, W [N, K], that gets a pair of factors. */
export interface StartLayer {
  readonly path: string;
  readonly layer: Linear;
  /** R, as configured for this layer. */
  readonly rank: number;
  readonly alpha: number;
  /** s = alpha / R, or alpha / sqrt(R). */
  readonly scale: number;
  /** Probability of dropping an element of the branch's input in training. */
  readonly dropout: number;
  /** The alpha with which this layer has the same scale at another rank. */
  alphaAt(rank: number): number;
}

/** How one layer starts. The receiver owns the tensors. */
export interface Start {
  readonly path: string;
  /** A [R, K] in the dtype of adapters. R may differ from the configured rank; a layer with R = 0 gets no adapter. */
  readonly a: Tensor;
  /** B [N, R]. */
  readonly b: Tensor;
  /** Alpha of this layer where it is not the configured one. */
  readonly alpha?: number;
  /**
   * The frozen weight beside the factors: `kept` (the default) as it is, `residual` W - s B A, or a weight of its own. It is put into the layer when all
   * layers have their factors; until then nothing is changed.
   */
  readonly base?: 'kept' | 'residual' | PackedWeight;
}

/** What an initialisation gets to know beside its layers and options. */
export interface InitContext {
  readonly network: Module;
  /** dtype of adapter parameters: f32, and f64 in a network of f64. */
  readonly dtype: DType;
  readonly seed: number;
  /** A number of its own for each (path, name), for the random generator: starting values do not depend on the order of the layers. */
  stream(path: string, name: string): number;
  readonly signal: AbortSignal | undefined;
  /** To be called after each piece of work: `done` of `total` pieces, `path` or a short text saying which. */
  readonly onProgress: (progress: { readonly done: number; readonly total: number; readonly path: string }) => void;
  /** Data to look at; undefined when `attach` got none. */
  readonly data: Calibration | undefined;
}

/**
 * A way to start the factors of LoRA from the weights of the model or from data: one file that answers these questions, and one line in the registry.
 */
export interface InitMethod<Name extends string, Options extends object> {
  readonly name: Name;
  /** Every option with its default. `batchSize` and `batches` are for those that look at data: how much of it a recipe gives them. */
  readonly defaults: Options;
  /** The options that a bare name stands for (`init: 'pissa_niter_4'`), published spellings included; undefined for a name that is not this method's. Throws `ConfigError` for one that is, and is malformed. */
  named(text: string): Partial<Options> | undefined;
  /** Throws `ConfigError` for values and combinations that cannot work, whatever the model. */
  check(options: Options, config: LoraConfig): void;
  /** Whether it looks at data. */
  readonly usesData: boolean;
  /** Whether it cannot do without with these options, for one that uses data. Default: it cannot. */
  needsData?(options: Options): boolean;
  /** Whether it changes frozen weights, so that a finished adapter belongs to what is left of them. */
  readonly changesBase: boolean;
  /** Whether the weight beside the factors is W, or W - s B A where the base is changed, so that it can be formed from the factors alone. Default: yes. */
  formedFromFactors?(options: Options): boolean;
  /**
   * Finds the start of every layer, in any order; long work calls `context.onProgress` and heeds `context.signal`. Only one layer's large matrices are in memory
   * at a time. Throws `ConfigError` for a layer that it cannot start.
   */
  start(layers: readonly StartLayer[], options: Options, context: InitContext): AsyncIterable<Start>;
  /** How PEFT's `adapter_config.json` spells it; absent where PEFT has no such initialisation. */
  readonly peft?: {
    /** The options of a file whose `init_lora_weights` is `text`; undefined for one that is not this method's. */
    read(text: string, file: JsonObject): Partial<Options> | undefined;
    /** `init_lora_weights` and the keys beside it. */
    write(options: Options): Readonly<Record<string, unknown>>;
    /**
     * Whether the changed base can be computed again from the published weights alone, with the same result every time. Where it cannot, such a file needs its
     * initial factors.
     */
    repeatable(options: Options): boolean;
  };
}

// biome-ignore lint/suspicious/noExplicitAny: erased options of a registry entry
export type AnyInit = InitMethod<string, any>;
