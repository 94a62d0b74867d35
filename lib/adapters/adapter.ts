import type { Calibration } from '../inits/calibration.js';
import type { JsonObject } from '../io/json.js';
import type { Tokenizer } from '../io/tokenizer.js';
import type { ForwardContext, TaskId } from '../nn/context.js';
import { type Layer, Module } from '../nn/module.js';
import type { KeyValuePrefix } from '../nn/prefix.js';
import type { Role } from '../nn/role.js';
import type { SublayerCall } from '../nn/sublayer.js';
import type { TokenNetwork, VirtualTokens } from '../nn/virtual-tokens.js';
import type { LowRankFactors } from '../ops/lowrank.js';
import type { RandomSource } from '../random.js';
import type { DType, Tensor } from '../tensor.js';
import type { TrainingPass } from './consistency.js';
import type { InitialFactors } from './initial-factors.js';
import type { Candidate, Targets } from './targets.js';

/** Options every method has: which modules it adapts. `null` means the method's own roles. */
export interface CommonConfig {
  targets: Targets | null;
  /** Modules left out although targeted: a list of names, or an expression for the whole path. */
  exclude: string | RegExp | readonly string[] | null;
  /** Modules trained and saved whole, by the end of their path. */
  modulesToSave: readonly string[] | null;
  /** Numbers of the layers to adapt; needs `targets` as a list or roles. */
  layersToTransform: number | readonly number[] | null;
  /** Name of the list of layers in a path, where it is not the first one with a number. */
  layersPattern: string | readonly string[] | null;
  /** Accept entries of `targets` that match no module. */
  allowUnmatched: boolean;
}

export const commonDefaults: CommonConfig = {
  targets: null,
  exclude: null,
  modulesToSave: null,
  layersToTransform: null,
  layersPattern: null,
  allowUnmatched: false,
};

/** A module chosen to be adapted. */
export interface Target extends Candidate {
  readonly layer: Layer;
}

/** Parameters of a layer by property name, dense and in the dtype of adapters. */
export type LayerParameters = Readonly<Record<string, Tensor>>;

/** What `merge` is told beside the parameters. */
export interface MergeDetails {
  /** The task whose adapter is folded in, of one that is routed by task. */
  readonly task?: TaskId | undefined;
}

/** One pass through an adapted layer. */
export interface LayerCall {
  readonly x: Tensor;
  readonly context: ForwardContext | undefined;
  /** The bare layer. */
  readonly base: Layer;
  /** The layer below this adapter: the bare one with the adapters that come before. */
  readonly next: (x: Tensor) => Tensor;
  /** True when `next` is the bare layer. */
  readonly first: boolean;
}

/**
 * What a method puts on one layer. Its own tensors and those of its children are its parameters; their path is the end of their name in a checkpoint
 * (`lora_A.weight`). Other tensors are kept in private fields and released by an override of `dispose`.
 *
 * A subclass answers any of five questions: `lowRank` (a low-rank branch, which is fused into the base product and batched by rows), `replaces` (tensors
 * that stand for parameters of the bare layer while it runs), `sublayer` (around attention and MLP of a block), `prefix` (keys and values in front of those of
 * attention), `forward` (anything else, around the layer).
 */
export abstract class AdapterModule extends Module {
  /** The branch y += scale * (drop(x) Aᵀ) Bᵀ + scale * bias, for methods that are just that on a linear layer. */
  lowRank?(training: boolean): LowRankFactors;
  /** Tensors of the adapter's dtype, by property name of the bare layer. */
  replaces?(): LayerParameters;
  /** On a block: what a sub-layer adds to the residual stream; calls `call.next` for the sub-layer itself. */
  sublayer?(call: SublayerCall): Tensor;
  /** On attention: keys and values that stand in front of those of the tokens, and that every query sees. */
  prefix?(training: boolean): KeyValuePrefix;
  /** The adapted output; calls `call.next` for what lies below. */
  forward?(call: LayerCall): Tensor;
  /**
   * The layer's parameters with this adapter folded in. `pristine` are those of the bare layer, `merged` the same with the adapters before this one.
   * Absent where the method cannot be folded into weights. Called without recording, inside a scope.
   */
  merge?(pristine: LayerParameters, merged: LayerParameters, details?: MergeDetails): LayerParameters;
  /** The parameters without this adapter, where they can be had from the merged ones alone. */
  unmerge?(merged: LayerParameters): LayerParameters;
  /** Multiplies the adapter's configured strength; a later call replaces an earlier one. */
  setScale?(factor: number): void;
  /** Of a module that belongs to the whole network: what it puts in front of the tokens of its rows. */
  virtual?(): VirtualTokens;
  /** Random sources of this module, whose state belongs to a training checkpoint. */
  readonly random?: RandomSource | undefined;
  /** Counts the passes in training, of modules that go by their number; part of a checkpoint like `random`. */
  readonly passes?: RandomSource | undefined;
  /** What this module took out of the frozen weights of its layer, if it did. */
  readonly taken?: TakenPart | undefined;
}

/** A part of a frozen weight that an adapter took over, and that trains with it from there on. */
export interface TakenPart {
  /** Runs where the adapter does not: it gives back what was taken, so that the layer computes as it did before the adapter came. */
  readonly standIn: AdapterModule;
  /** Its tensors by the end of their name in a checkpoint; they are part of a training's state and stay as they are. */
  readonly tensors: Readonly<Record<string, Tensor>>;
  /** Takes the part out of the layer's weight. What it returns decides, once, whether that stays. */
  take(layer: Layer): Taking;
  /** Gives the part back, exact to rounding; a weight that was put into few bits stays so. */
  putBack(layer: Layer): void;
}

/** A part that was just taken, while the weight from before is still there. */
export interface Taking {
  /** Releases the weight from before. */
  settle(): void;
  /** Puts the weight from before back into the layer, the same object. */
  undo(): void;
}

/** What a method gets to know beside its config when it creates its modules. */
export interface CreateContext {
  /** dtype of adapter parameters: f32, and f64 in a model of f64. */
  readonly dtype: DType;
  readonly seed: number;
  /** A number of its own for each (path, name), to be given to the random generator: starting values do not depend on the order of creation. */
  stream(path: string, name: string): number;
  readonly signal: AbortSignal | undefined;
  readonly network: Module;
  /** Batches for methods that look at data before they start; undefined when `attach` got none. */
  readonly data: Calibration | undefined;
  /** Factors that were found before, to start from in place of looking at weights or data again. */
  readonly initial: InitialFactors | undefined;
  /** Whether all values come from a file as soon as the modules are made. */
  readonly loading: boolean;
  /** To be called after each piece of work that comes before the modules are made. */
  readonly onProgress: (progress: { readonly done: number; readonly total: number; readonly path: string }) => void;
  /** The tokenizer of the model; undefined for a network of one's own, or a model without. */
  readonly tokenizer: Tokenizer | undefined;
}

/** A module of a method and where it goes. */
export interface Placement {
  /** Path of a layer; empty for the whole network. */
  readonly path: string;
  readonly module: AdapterModule;
}

/** What a look at all targets, their weights or data led to. */
export interface Preparation<Config> {
  /** The config as it is from here on, with the ranks that were found. */
  readonly config: Config;
  /** The targets that get a module. */
  readonly targets: readonly Target[];
  /** The module of one of them; called once for each. */
  create(target: Target): AdapterModule;
  /** Releases what `create` did not take over. */
  dispose(): void;
}

/** How modules come by the part that they take out of frozen weights. */
export interface TakenKind {
  /** What it is called: `pissa`. */
  readonly name: string;
  /** Whether data decide what it is. */
  readonly usesData: boolean;
  /** Whether it can be found again from the published weights alone, with the same result every time. */
  readonly repeatable: boolean;
  /** Whether the weights that are left follow from the factors. */
  readonly formedFromFactors: boolean;
}

/**
 * `published`: for the published weights. `split`: as trained, for the weights that are left. `initial`: the part that was taken, as an adapter. `native`: as
 * trained, where it is published as another adapter. `lora`: as plain LoRA that makes the same change of the layers.
 */
export type AdapterForm = 'published' | 'split' | 'initial' | 'native' | 'lora';

/** An adapter as tensors for a file. */
export interface PortableAdapter<Config> {
  /** The method that reads them, where it is another one than wrote them. */
  readonly method?: AnyMethod;
  readonly config: Config;
  /** Those of its tensors that are codes, or say what codes mean: a dtype that is asked for does not concern them. */
  readonly codes?: ReadonlySet<Tensor>;
  /** By name in a checkpoint; the enclosing scope owns what was made for this. */
  readonly tensors: readonly (readonly [name: string, value: Tensor])[];
}

/** A learning rate and weight decay for the parameters whose name ends so. */
export interface ParameterRate {
  readonly end: string;
  readonly learningRate: number;
  readonly weightDecay: number;
}

/** What a method reads from and writes to `adapter_config.json` of a PEFT folder. */
export interface PeftFormat<Config> {
  /** Every key of the method's table, common keys left aside, with its neutral value. */
  readonly keys: Readonly<Record<string, unknown>>;
  /** Keys beside those, which `write` gives where they say something. */
  readonly further?: readonly string[];
  /** Keys of all methods that files of this one do not have; given where they say something. */
  readonly lacks?: readonly string[];
  /** Throws `ConfigError` naming a key whose value would change the result and is not supported. */
  read(file: JsonObject): Partial<Config>;
  write(config: Config): Record<string, unknown>;
  /** Whether a file of this `peft_type` is of this method, by its config and the names of its tensors in the model: for methods that share another one's type. */
  recognises?(file: JsonObject, tensors: readonly string[]): boolean;
  /** What the header of the tensors says beside their names. */
  metadata?(config: Config): Readonly<Record<string, string>>;
  /** Text of files that lie beside config and tensors, by name. */
  beside?(config: Config): Readonly<Record<string, string>>;
}

/**
 * An adapter method: one file that answers these questions, and one line in the registry. Everything else (matching, injection, activation, merging,
 * saving, routing by row) is shared and knows no method by name.
 */
export interface AdapterMethod<Name extends string, Config extends CommonConfig> {
  readonly name: Name;
  /** How the parameters of the method begin in a checkpoint. */
  readonly prefix: string;
  /** `peft_type` in published files; absent where PEFT has no such method. */
  readonly peftType?: string;
  readonly peft?: PeftFormat<Config>;
  /** Other values of `peft_type` in files that are read as this method's, each with the keys that come with it and are not written back. */
  readonly peftVariants?: Readonly<Record<string, readonly string[]>>;
  /** Every option with its default. */
  readonly defaults: Config;
  /** Throws `ConfigError` for a value or combination that cannot work, whatever the model. */
  check(config: Config): void;
  /** Whether the method reads `data` when it is attached with this config. Default: no. */
  usesData?(config: Config): boolean;
  /** Whether an adapter with this config starts as the identity, bit for bit. Default: yes. */
  startsAsIdentity?(config: Config): boolean;
  /** How many batches of how many rows it looks at, where a recipe makes them; absent or undefined: a customary number. */
  calibration?(config: Config): { readonly batchSize?: number | undefined; readonly batches?: number | undefined };
  /** The same adapter with plain starting values: of the same size, and made without a look at weights or data. Default: the config itself. */
  plain?(config: Config): Config;
  /** Whether tensors that the network itself holds, in no layer, are among what it adapts, as the target `.`, for a module that `replaces`. Default: no. */
  readonly adaptsNetwork?: boolean;
  /** The networks that the method is for: encoders alone, whose tokens all see each other. Default all. */
  readonly networks?: 'encoders';
  /** What is adapted when `targets` is null; a function where that depends on the config. */
  readonly roles: readonly Role[] | ((config: Config) => readonly Role[]);
  /** The kinds of layers it can adapt, so that a role means those alone. Default all. */
  readonly kinds?: readonly Candidate['kind'][];
  /**
   * Looks at all targets, their weights and data before any module is made; for the configs that need it. Leaves the network as it is. Without it, or where it
   * returns undefined, `create` makes the module of each target.
   */
  prepare?(targets: readonly Target[], config: Config, context: CreateContext): Promise<Preparation<Config> | undefined>;
  /** The module for one target; throws `ConfigError` for a kind of layer that the method cannot adapt. Only methods with `whole` do without. */
  create?(target: Target, config: Config, context: CreateContext): AdapterModule | Promise<AdapterModule>;
  /** The module of a method that has no targets: it belongs to the whole network, and its `virtual` tokens stand in front of every row. */
  whole?(network: TokenNetwork, config: Config, context: CreateContext): AdapterModule | Promise<AdapterModule>;
  /** Modules beside the targets, among all layers of the model. */
  extras?(
    layers: readonly Target[],
    targets: readonly Target[],
    config: Config,
    context: CreateContext,
  ): Iterable<Placement> | Promise<Iterable<Placement>>;
  /** Whether the adapter has a head of its own in place of that of the model, which is then not trained beside it. Default: no. */
  bringsHead?(config: Config): boolean;
  /** What the modules of a config take out of the frozen weights; undefined where they leave them alone. */
  takes?(config: Config): TakenKind | undefined;
  /**
   * The loss of a batch of rows in training, in place of that of one pass, summed over its rows; undefined where the config asks for one pass. It runs the pass it is
   * given as often as it needs.
   */
  trainingLoss?(config: Config, placements: readonly Placement[]): ((pass: TrainingPass) => Tensor) | undefined;
  /**
   * The adapter in a form of `AdapterForm`; absent where it is only written as it is trained. `details` are for the form `lora`. Called without recording,
   * inside a scope.
   */
  portable?(config: Config, placements: readonly Placement[], form: AdapterForm, details?: MergeDetails): PortableAdapter<CommonConfig>;
  /** Which parameters, by the end of their name, have a learning rate and weight decay of their own in a run. */
  rates?(config: Config): readonly ParameterRate[];
  /** Whether two adapters with these configs may be on one model; returns what speaks against it. */
  conflict?(config: Config, other: Config): string | undefined;
}

// The registry holds methods of different configs; each is used only with its own.
// biome-ignore lint/suspicious/noExplicitAny: erased config type of a registry entry
export type AnyMethod = AdapterMethod<string, any>;
