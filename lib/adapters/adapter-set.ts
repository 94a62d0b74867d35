import type { EncoderModel } from '../encoder-model.js';
import { AdapterError, ConfigError, didYouMean } from '../errors.js';
import type { CalibrationData } from '../inits/calibration.js';
import type { JsonObject } from '../io/json.js';
import type { Model } from '../model.js';
import { kResidual, residualOf, setCompleted } from '../models/residual.js';
import type { Module, Parameter } from '../nn/module.js';
import type { RandomSource } from '../random.js';
import { unscoped } from '../scope.js';
import type { DType, Tensor } from '../tensor.js';
import { Activation } from './adapted-layer.js';
import type { AnyMethod, CommonConfig, Placement } from './adapter.js';
import { type AdapterRow, namedTensorsOf, rowsOf } from './adapter-table.js';
import { contextOf, createPlacements } from './create-placements.js';
import { noInitial } from './initial-factors.js';
import { carriersOf, eject, inject, modulesOn } from './inject.js';
import { type MergedState, type MergeOptions, type MergeReport, mergeLayers, releaseBase, unmergeLayers } from './merge.js';
import type { ResolvedConfig } from './resolve-config.js';
import { takeParts } from './taken-pair.js';
import { refuseWhole } from './whole-network.js';

/** Options of `attach` beside the config. */
export interface AttachOptions {
  /** Name of the adapter on this model: no dots, not the name of a module. Default `default`. */
  readonly name?: string;
  /** Seed of the starting values and of dropout. Default 0. */
  readonly seed?: number;
  /** Whether the new adapter becomes the active one, alone. Default true. */
  readonly activate?: boolean;
  /** Batches for methods that look at data before they start: of token ids for a model, `{ batches, forward, loss }` for a network of one's own. */
  readonly data?: CalibrationData;
  /**
   * Folder of factors that the initialisation of the config found before, in place of looking at weights or data again: what `save` with `form: 'initial'` wrote,
   * or PEFT's initial adapter. The weights get the same bits as the first time.
   */
  readonly initial?: string | undefined;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: { readonly done: number; readonly total: number; readonly path: string }) => void;
}

/** One adapter on a model. */
export interface Attached {
  readonly name: string;
  readonly method: AnyMethod;
  readonly config: CommonConfig;
  readonly placements: readonly Placement[];
  /** The targets as a file would hold them. */
  readonly targets: string | readonly string[];
  /** The PEFT config it was loaded from, if it was. */
  readonly file: JsonObject | undefined;
}

const kDefaultName = 'default';

const pathsOf = (placements: readonly Placement[]): string[] => placements.map(({ path }) => path);

const quoted = (names: readonly string[]): string => names.map((name) => `"${name}"`).join(', ');

/** Networks to which an adapter is being added. */
const attaching = new WeakSet<Module>();

const sets = new WeakMap<Module, AdapterSet>();

/** The adapters on a network, if it ever had any. */
export const adaptersOn = (network: Module): AdapterSet | undefined => sets.get(network);

/**
 * The adapters on a network: adds and removes them, says which are active, merges them. Shared by models and by any network of one's own
 * (`attach(network, …)`). Owns the adapters; `dispose()` takes them off.
 */
export class AdapterSet {
  readonly network: Module;
  readonly #activation = new Activation();
  readonly #adapters = new Map<string, Attached>();
  #merged: MergedState[] = [];
  /** Whether what is merged makes the weights whole. */
  #completed = false;

  readonly #model: Model | EncoderModel | undefined;

  /** `model`: the model that `network` belongs to, if it does. */
  constructor(network: Module, model?: Model | EncoderModel) {
    this.network = network;
    this.#model = model;
    sets.set(network, this);
  }

  get names(): readonly string[] {
    return [...this.#adapters.keys()];
  }

  /** The adapters that run when rows do not say otherwise, in the order in which they are applied. */
  get active(): readonly string[] {
    return this.#activation.active;
  }

  get enabled(): boolean {
    return this.#activation.enabled;
  }

  /** The adapters folded into the weights at the moment. */
  get merged(): readonly string[] {
    return [...this.#activation.merged];
  }

  /** Dtype of adapter parameters: f64 in a network of f64, else f32. */
  get dtype(): DType {
    const values = [...this.network.namedParameters()].map(([, value]: [string, Parameter]) => value.dtype);
    return values.includes('f64') && !values.some((dtype) => dtype === 'f32' || dtype === 'bf16' || dtype === 'f16') ? 'f64' : 'f32';
  }

  /** The adapter of that name. Throws `AdapterError` when there is none. */
  get(name: string): Attached {
    const found = this.#adapters.get(name);
    if (found === undefined) {
      throw new AdapterError(
        `adapter: there is none called "${name}"; there are ${this.names.join(', ') || 'none'}${didYouMean(name, this.names)}`,
      );
    }
    return found;
  }

  /**
   * Adds an adapter. All or nothing: when it fails, the network has the bits from before. Of one that comes from a file, `file` is its PEFT config, and `fill` gives
   * the new modules their values before they change the network.
   */
  async add(
    resolved: ResolvedConfig,
    options: AttachOptions = {},
    file?: JsonObject,
    fill?: (attached: Attached) => Promise<void>,
  ): Promise<Attached> {
    const { network } = this;
    if (attaching.has(network)) throw new AdapterError('attach: another attach on this network is still running; await it first');
    attaching.add(network);
    try {
      return await this.#add(resolved, options, file, fill);
    } finally {
      attaching.delete(network);
    }
  }

  async #add(
    { method, config: given }: ResolvedConfig,
    options: AttachOptions,
    file: JsonObject | undefined,
    fill: ((attached: Attached) => Promise<void>) | undefined,
  ): Promise<Attached> {
    const name = options.name ?? kDefaultName;
    this.#checkName(name);
    this.#requireUnmerged('attach');
    this.#requireCompany(name, method, given);
    if (options.data !== undefined && !(method.usesData?.(given) ?? false))
      throw new ConfigError(`attach: "${method.name}" with these options reads no data; expected no "data" option`);
    if (options.initial !== undefined && method.prepare === undefined) throw noInitial(method.name);
    if (this.network.trainableParameters().length > 0) this.network.freeze();
    const created = await unscoped(async () =>
      createPlacements(method, given, await contextOf(this, options, this.#model, file !== undefined), (work) => this.#bare(work)),
    );
    const attached: Attached = { name, method, ...created, file };
    const { placements } = attached;
    try {
      await fill?.(attached);
      this.#requireUnmerged('attach');
    } catch (error) {
      for (const { module } of placements) module.dispose();
      throw error;
    }
    inject(this.network, name, placements, this.#activation);
    try {
      takeParts(this.network, placements);
    } catch (error) {
      eject(this.network, name, pathsOf(placements), false);
      throw error;
    }
    this.#adapters.set(name, attached);
    this.#activation.known.add(name);
    if (options.activate ?? true) this.activate([name]);
    return attached;
  }

  /** The name of the adapter that took parts out of the weights, if one did. */
  get splitBy(): string | undefined {
    return [...this.#adapters.values()].find(({ placements }) => placements.some(({ module }) => module.taken !== undefined))?.name;
  }

  /** What the weights lack at the moment: the name of the initialisation whose part an adapter holds. */
  get lacking(): string | undefined {
    const owner = this.splitBy;
    if (owner === undefined || this.#activation.merged.has(owner)) return undefined;
    const { method, config } = this.get(owner);
    return method.takes?.(config)?.name ?? method.name;
  }

  /** Throws where the new adapter cannot be beside those that are there. */
  #requireCompany(name: string, method: AnyMethod, config: CommonConfig): void {
    const owner = this.splitBy;
    if (owner !== undefined)
      throw new AdapterError(
        `attach: "${name}" cannot be beside "${owner}", which took a part out of the frozen weights; save "${owner}", which writes it for the published weights, and load it on a fresh model`,
      );
    const takes = method.takes?.(config);
    if (takes !== undefined && this.names.length > 0)
      throw new AdapterError(
        `attach: "${name}" takes a part out of the frozen weights (${takes.name}), for which ${quoted(this.names)} would no longer be right; remove ${quoted(this.names)} first, or attach "${name}" to a fresh model`,
      );
    for (const other of this.#adapters.values()) {
      const reason = other.method === method ? method.conflict?.(config, other.config) : undefined;
      if (reason !== undefined) throw new AdapterError(`attach: "${name}" cannot be beside "${other.name}": ${reason}`);
    }
  }

  /** Runs `work` while the network computes as if it had no adapters. */
  async #bare<T>(work: () => T | Promise<T>): Promise<T> {
    const { enabled } = this;
    this.#activation.enabled = false;
    try {
      return await work();
    } finally {
      this.#activation.enabled = enabled;
    }
  }

  #checkName(name: string): void {
    if (name === '' || /[./\\\s]/.test(name))
      throw new AdapterError(`attach: an adapter name has no dots, slashes or spaces; got "${name}"`);
    if (this.#adapters.has(name)) throw new AdapterError(`attach: there is an adapter "${name}" already; give this one another name`);
    const segments = new Set([...this.network.namedModules()].flatMap(([path]) => path.split('.')));
    if (segments.has(name)) throw new AdapterError(`attach: an adapter cannot be called like a module of the network; got "${name}"`);
  }

  #requireUnmerged(what: string): void {
    if (this.#activation.merged.size > 0)
      throw new AdapterError(
        `${what}: unmerge first; ${this.merged.join(', ')} ${this.merged.length > 1 ? 'are' : 'is'} merged into the weights`,
      );
  }

  /** Makes exactly these adapters run, their changes added up in this order. */
  activate(names: string | readonly string[]): void {
    const list = typeof names === 'string' ? [names] : [...names];
    for (const name of list) this.get(name);
    if (new Set(list).size !== list.length) throw new AdapterError(`activate: a name is repeated; got ${list.join(', ')}`);
    this.#requireUnmerged('activate');
    this.#activation.active = list;
  }

  /** Takes these adapters out of the active ones; all of them by default. */
  deactivate(names: string | readonly string[] = this.active): void {
    const list = typeof names === 'string' ? [names] : names;
    for (const name of list) this.get(name);
    this.#requireUnmerged('deactivate');
    this.#activation.active = this.active.filter((name) => !list.includes(name));
  }

  /** Lets the active adapters run again. */
  enable(): void {
    this.#activation.enabled = true;
  }

  /** The network computes as if it had no adapters, until `enable()`. */
  disable(): void {
    this.#requireUnmerged('disable');
    this.#activation.enabled = false;
  }

  /** Notes options of an adapter that changed with its tensors. */
  reconfigure(name: string, options: Partial<CommonConfig>): void {
    const attached = this.get(name);
    this.#adapters.set(name, { ...attached, config: { ...attached.config, ...options } });
  }

  /** Multiplies the configured strength of an adapter on all its layers. Throws `AdapterError` for an adapter without strength: tokens, or trained copies. */
  setScale(name: string, factor: number): void {
    const { placements, method } = this.get(name);
    if (!Number.isFinite(factor)) throw new AdapterError(`setScale: the factor must be a finite number; got ${factor}`);
    if (placements.every(({ module }) => module.setScale === undefined))
      throw new AdapterError(`setScale: an adapter of "${method.name}" has no strength to multiply; got "${name}"`);
    for (const { module } of placements) module.setScale?.(factor);
  }

  /**
   * Checkpoint names and tensors of the given adapters (default: the active ones), such as `model.layers.0.self_attn.q_proj.lora_A.weight`; a tensor that
   * layers share comes once.
   */
  *namedParameters(names: readonly string[] = this.active): Iterable<[string, Tensor]> {
    const seen = new Set<Tensor>();
    for (const name of names) {
      for (const [path, value] of this.get(name).placements.flatMap(namedTensorsOf)) {
        if (seen.has(value)) continue;
        seen.add(value);
        yield [path, value];
      }
    }
  }

  /** The tensors to train: those of the given adapters (default: the active ones) that collect a gradient. */
  parameters(names: readonly string[] = this.active): Tensor[] {
    return [...this.namedParameters(names)].map(([, value]) => value).filter((value) => value.requiresGrad);
  }

  /** What each adapter put where. */
  table(names: readonly string[] = this.names): AdapterRow[] {
    return names.flatMap((adapter) => rowsOf(this.get(adapter)));
  }

  /** The places of the random sources of an adapter (dropout), for a training checkpoint. */
  randomState(name: string): Record<string, number> {
    const sources = this.get(name).placements.flatMap(sourcesOf);
    return Object.fromEntries(sources.map(([key, { draws }]) => [key, draws]));
  }

  /** Puts the random sources of an adapter back to where `randomState` saw them. */
  restoreRandomState(name: string, state: Readonly<Record<string, number>>): void {
    for (const [key, source] of this.get(name).placements.flatMap(sourcesOf)) source.draws = state[key] ?? source.draws;
  }

  /**
   * Folds the active adapters into the weights and measures the result: random inputs through the adapted and the merged layers. Deltas are formed and added in
   * f32 and rounded once to the dtype of the weights. Throws `NonFiniteError` for a result that is not finite, and leaves everything as it was.
   */
  async merge(options: MergeOptions = {}): Promise<MergeReport> {
    this.#requireUnmerged('merge');
    const names = this.active;
    if (names.length === 0) throw new AdapterError('merge: no adapter is active');
    if (!this.enabled) throw new AdapterError('merge: the adapters are disabled; enable() first');
    const placements = names.flatMap((name) => this.get(name).placements);
    refuseWhole(placements);
    const paths = pathsOf(placements);
    const layers = carriersOf(this.network, paths).map(([path, layer]) => [path, layer, modulesOn(layer, names)] as const);
    const { states, report } = await mergeLayers(layers, this.dtype, options);
    this.#merged = states;
    for (const name of names) this.#activation.merged.add(name);
    this.#complete(names);
    return report;
  }

  /** Notes when merged adapters are what the weights lacked that the model was loaded with. */
  #complete(names: readonly string[]): void {
    const missing = this.#model === undefined ? undefined : residualOf(this.#model);
    this.#completed = missing !== undefined && names.some((name) => this.get(name).file?.[kResidual] === missing);
    if (this.#completed) setCompleted(this.network, true);
  }

  /** Takes merged adapters out of the weights again: they run beside them as before. */
  unmerge(): void {
    if (this.#merged.length === 0) throw new AdapterError('unmerge: nothing is merged');
    unmergeLayers(this.#merged, this.dtype);
    if (this.#completed) setCompleted(this.network, false);
    this.#merged = [];
    this.#activation.merged.clear();
  }

  /**
   * Takes an adapter off the network and releases it. What it took out of the weights goes back, exact to rounding; a weight that it put into few bits stays so.
   */
  remove(name: string): void {
    this.get(name);
    this.#requireUnmerged('remove');
    this.#takeOff(name, true);
  }

  #takeOff(name: string, giveBack: boolean): void {
    eject(this.network, name, pathsOf(this.get(name).placements), giveBack);
    this.#adapters.delete(name);
    this.#activation.known.delete(name);
    this.#activation.active = this.active.filter((other) => other !== name);
  }

  /**
   * Takes all adapters off: the network is as it was before the first one, to rounding where one took a part out of the weights; a weight that was put into few
   * bits stays so. Merged adapters stay in the weights. Idempotent.
   */
  dispose(): void {
    for (const state of this.#merged) releaseBase(state);
    this.#merged = [];
    for (const name of this.names) this.#takeOff(name, !this.#activation.merged.has(name));
    this.#activation.merged.clear();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** What a module draws from and counts with, by its key in a checkpoint. */
const sourcesOf = ({ path, module: { random, passes } }: Placement): [string, RandomSource][] =>
  Object.entries({ [path]: random, [`${path}.passes`]: passes }).flatMap(([key, source]) => (source === undefined ? [] : [[key, source]]));
