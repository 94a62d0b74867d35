import { ConfigError, DisposedError } from './errors.js';
import type { JsonObject } from './io/json.js';
import type { Tokenizer } from './io/tokenizer.js';
import type { Compute, ModelDType } from './models/weight-storage.js';
import type { Module } from './nn/module.js';
import type { WeightLayout } from './ops/linalg.js';
import { trimMemory } from './scope.js';
import type { Device, DType } from './tensor.js';

/** The options of `loadModel` that say how weights are kept. */
export interface LoadedAs {
  readonly dtype?: ModelDType | undefined;
  readonly compute?: Compute | undefined;
  readonly layout?: WeightLayout | undefined;
}

/** What a model is made of, whatever its network answers. */
export interface LoadedParts<N extends Module> {
  readonly network: N;
  readonly config: JsonObject;
  readonly device: Device;
  readonly tokenizer: Tokenizer | undefined;
  /** Where it came from: a folder, a file or a hub id. */
  readonly source: string;
  readonly loadedAs?: LoadedAs | undefined;
}

/** What language models and encoders have in common: a network with where it came from. Owns the weights: `dispose()` releases them. */
export abstract class LoadedModel<N extends Module> {
  readonly network: N;
  /** The published config, with all its keys; of an encoder with the labels of its head. */
  readonly config: JsonObject;
  /** Dtype of the first parameter, and so of what is computed between layers. */
  readonly dtype: DType;
  readonly device: Device;
  readonly source: string;
  readonly loadedAs: LoadedAs | undefined;
  readonly #tokenizer: Tokenizer | undefined;
  #disposed = false;

  protected constructor(parts: LoadedParts<N>) {
    this.network = parts.network;
    this.config = parts.config;
    const [first] = parts.network.namedParameters();
    this.dtype = first?.[1].dtype ?? 'f32';
    this.device = parts.device;
    this.source = parts.source;
    this.loadedAs = parts.loadedAs;
    this.#tokenizer = parts.tokenizer;
  }

  /** Throws `ConfigError` where the model came without one. */
  get tokenizer(): Tokenizer {
    if (this.#tokenizer === undefined)
      throw new ConfigError(`tokenizer: ${this.source} has none; expected tokenizer.json beside the weights; token ids work without it`);
    return this.#tokenizer;
  }

  get hasTokenizer(): boolean {
    return this.#tokenizer !== undefined;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** The module at a path of property names, such as `model.layers.0.self_attn.q_proj`. */
  module(path: string): Module {
    return this.network.module(path);
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.network.dispose();
    trimMemory();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Throws `DisposedError` after `dispose`. */
  protected checkAlive(what: string): void {
    if (this.#disposed) throw new DisposedError(`${what}: the model ${this.source} was disposed; load it again`);
  }
}
