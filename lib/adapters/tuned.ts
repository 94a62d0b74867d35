import { realpath } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { EncoderModel } from '../encoder-model.js';
import { AdapterError, DisposedError } from '../errors.js';
import type { JsonObject } from '../io/json.js';
import { type PeftSaveOptions, replaceFolder, savePeftFolder } from '../io/peft.js';
import type { Tokenizer } from '../io/tokenizer.js';
import type { LoadedAs } from '../loaded-model.js';
import type { Model } from '../model.js';
import { kResidual } from '../models/residual.js';
import { saveModel } from '../models/save-model.js';
import type { Device, DType, Tensor } from '../tensor.js';
import { AdapterSet } from './adapter-set.js';
import type { AdapterRow } from './adapter-table.js';
import { combineAdapters } from './combine/combine.js';
import type { CombineOptions, CombinePart } from './combine/options.js';
import type { MergeOptions, MergeReport } from './merge.js';

/** Options of `save`. */
export interface SaveAdapterOptions extends PeftSaveOptions {
  /** Which adapter to save. Default: the active one; with several active ones, each goes to a folder of its name. */
  readonly name?: string;
}

/** Whether two paths are one folder that exists. */
async function isSameFolder(one: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([one, other].map((path) => realpath(resolve(path)).catch(() => undefined)));
  return a !== undefined && a === b;
}

/** A model that can have adapters. */
export type AdaptedModel = Model | EncoderModel;

const present = new WeakMap<AdaptedModel, Tuned<AdaptedModel>>();

/**
 * What language models and encoders with adapters have in common: they save, merge and switch their adapters. There is one for each model, and it changes the model
 * itself: both compute the same. Owns the adapters, not the model: `dispose()` takes the adapters off.
 */
export abstract class Tuned<M extends AdaptedModel> {
  readonly model: M;
  readonly adapters: AdapterSet;
  #disposed = false;

  protected constructor(model: M) {
    this.model = model;
    this.adapters = new AdapterSet(model.network, model);
    present.set(model, this);
  }

  /** The tuned form that a model has, if it has one. */
  protected static on(model: AdaptedModel): Tuned<AdaptedModel> | undefined {
    return present.get(model);
  }

  /** This tuned form, to attach to. Throws `DisposedError` after `dispose`. */
  protected usable(): this {
    if (this.#disposed) throw new DisposedError('attach: this tuned model was disposed; attach to the model itself');
    return this;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  get network(): M['network'] {
    return this.model.network;
  }

  get source(): string {
    return this.model.source;
  }

  get tokenizer(): Tokenizer {
    return this.model.tokenizer;
  }

  get hasTokenizer(): boolean {
    return this.model.hasTokenizer;
  }

  get config(): JsonObject {
    return this.model.config;
  }

  get device(): Device {
    return this.model.device;
  }

  get dtype(): DType {
    return this.model.dtype;
  }

  get loadedAs(): LoadedAs | undefined {
    return this.model.loadedAs;
  }

  /** Names of the adapters, in the order in which they were attached. */
  get names(): readonly string[] {
    return this.adapters.names;
  }

  /** The adapters that run when rows do not say otherwise. */
  get active(): readonly string[] {
    return this.adapters.active;
  }

  /** Makes exactly these adapters run, their changes added up. Throws `AdapterError` for an unknown name. */
  activate(names: string | readonly string[]): void {
    this.adapters.activate(names);
  }

  /** Takes these adapters (all by default) out of the active ones. */
  deactivate(names?: string | readonly string[]): void {
    this.adapters.deactivate(names);
  }

  /** Lets the active adapters run again after `disable()`. */
  enable(): void {
    this.adapters.enable();
  }

  /** The model computes as if it had no adapters, until `enable()`. */
  disable(): void {
    this.adapters.disable();
  }

  /** Multiplies the configured strength of an adapter; 1 is what was trained. */
  setScale(name: string, factor: number): void {
    this.adapters.setScale(name, factor);
  }

  /** The tensors to train of the active adapters (or of those given). */
  parameters(names?: readonly string[]): Tensor[] {
    return this.adapters.parameters(names);
  }

  /** Name and tensor of every parameter of the active adapters (or of those given). */
  namedParameters(names?: readonly string[]): Iterable<[string, Tensor]> {
    return this.adapters.namedParameters(names);
  }

  /** Which layers carry which adapter, and how many parameters. */
  table(names?: readonly string[]): AdapterRow[] {
    return this.adapters.table(names);
  }

  /**
   * Makes a new adapter from several: by default (`cat`) exactly the weighted sum of their changes. It becomes the active one; its parts stay.
   *
   * ```ts
   * await tuned.combine('both', [{ adapter: 'a', weight: 0.7 }, { adapter: 'b', weight: 0.3 }], { type: 'svd', rank: 16 });
   * ```
   *
   * Throws `AdapterError` for a name that is taken or unknown and for adapters that cannot be combined, `ConfigError` for wrong options.
   */
  async combine(name: string, parts: readonly CombinePart[], options?: CombineOptions): Promise<void> {
    await combineAdapters(this.adapters, name, parts, options);
  }

  /** Folds the active adapters into the weights; returns the measured error. See `AdapterSet.merge`. */
  merge(options?: MergeOptions): Promise<MergeReport> {
    return this.adapters.merge(options);
  }

  /** Takes merged adapters out of the weights again, by default to the exact bits from before. */
  async unmerge(): Promise<void> {
    this.adapters.unmerge();
  }

  /** The model under the adapters: after `dispose` its answers would be those of the base, so there are none. */
  protected live(what: string): M {
    if (this.#disposed) throw new DisposedError(`${what}: this tuned model was disposed; use the model itself, or attach again`);
    return this.model;
  }

  /** Takes one adapter off the model and releases it. See `AdapterSet.remove`. */
  remove(name: string): void {
    this.adapters.remove(name);
  }

  /**
   * Writes an adapter as a PEFT folder (`adapter_config.json`, `adapter_model.safetensors`), which appears complete or not at all. With several active
   * adapters and no `name`, each goes into a subfolder of its name, as in PEFT. Returns the folders written.
   *
   * An adapter that took a part out of the weights has other forms: with `form: 'split'` the folder gets the model that is left, and the adapter goes into a
   * subfolder of it such as `pissa_init`, for `loadModel(folder)` and `loadAdapter(model, folder + '/pissa_init')`. It cannot be the folder of the model itself.
   */
  async save(folder: string, options: SaveAdapterOptions = {}): Promise<string[]> {
    const { name, ...rest } = options;
    const names = name === undefined ? this.active : [name];
    if (names.length === 0) throw new AdapterError('save: no adapter is active; give the name of one');
    if (rest.form === 'split') return this.#saveSplit(folder, names, rest);
    const { merged } = this.adapters;
    if (rest.form === 'lora' && merged.length > 0)
      throw new AdapterError(
        `save: form "lora" reads the weights below the adapter; got ${merged.map((each) => `"${each}"`).join(', ')} merged into them, unmerge first`,
      );
    const baseModel = this.model.source;
    const written: string[] = [];
    for (const each of names) {
      const target = names.length > 1 ? `${folder}/${each}` : folder;
      await savePeftFolder(target, this.adapters.get(each), this.model.network, { baseModel, ...rest });
      written.push(target);
    }
    return written;
  }

  /** Writes the model that is left, and below it the adapter, whose config says what it belongs to. */
  async #saveSplit(folder: string, names: readonly string[], options: PeftSaveOptions): Promise<string[]> {
    const { lacking, splitBy } = this.adapters;
    if (lacking === undefined || names.some((name) => name !== splitBy)) {
      throw new AdapterError(
        `save: form "split" is of one adapter that took a part out of the weights and is not merged; got ${names.join(', ')}, expected "published"`,
      );
    }
    if (await isSameFolder(folder, this.model.source))
      throw new AdapterError(
        `save: form "split" would replace the published weights; got the model's own folder "${folder}", expected another one`,
      );
    const attached = this.adapters.get(splitBy as string);
    const marked = { ...attached, file: { ...attached.file, [kResidual]: lacking } };
    const name = `${lacking.replaceAll('-', '_')}_init`;
    await replaceFolder(folder, async (target) => {
      await saveModel(this.model, target);
      await savePeftFolder(join(target, name), marked, this.model.network, { baseModel: folder, ...options });
    });
    const target = join(folder, name);
    return [folder, target];
  }

  /**
   * Takes all adapters off and releases them; the model itself is as it was before the first one, to rounding where one took a part out of the weights; a weight
   * that was put into few bits stays so. Adapters that are merged stay in the weights. Idempotent.
   */
  dispose(): void {
    this.#disposed = true;
    this.adapters.dispose();
    if (present.get(this.model) === this) present.delete(this.model);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
