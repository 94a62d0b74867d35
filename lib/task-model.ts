import type { FrontEnd, Values } from './data/front-end.js';
import type { JsonObject } from './io/json.js';
import type { EncoderText, Tokenizer } from './io/tokenizer.js';
import type { LoadedAs } from './loaded-model.js';
import type { EncoderNetwork, EncoderTask } from './models/encoder.js';
import type { EncoderForwardOptions, EncoderRows } from './models/encoder-batch.js';
import type { TaskTargets } from './models/task-loss.js';
import type { TaskId } from './nn/context.js';
import type { Reduction } from './ops/loss.js';
import type { Device, DType, Tensor } from './tensor.js';

/** What `predict` answers to one example, by task. */
export interface Predictions {
  /** The likeliest class, and the probability of every one. */
  readonly classification: {
    readonly label: string;
    readonly probability: number;
    readonly probabilities: Readonly<Record<string, number>>;
  };
  readonly regression: readonly number[];
  /** A tag for every word that fits into the context; null for a word that the tokenizer makes nothing of. */
  readonly 'token-classification': readonly (string | null)[];
  /** For every mask the likeliest tokens, best first. */
  readonly 'masked-lm': readonly (readonly { readonly token: string; readonly id: number; readonly probability: number }[])[];
  readonly embedding: Float32Array;
}

/** An example for `predict`: a text, a pair of texts or words for a model of text; the path of a file, or its values, for one of images or audio. */
export type PredictInput = EncoderText | Values;

export interface PredictOptions {
  /** Examples of one forward pass; results do not depend on it. Default 8. */
  readonly batch?: number;
  /** Texts are cut to this many tokens. Default: the model's context, less what virtual tokens take of it. */
  readonly maxLength?: number;
  /** The task of the examples, for adapters that are routed by task. */
  readonly task?: TaskId | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The targets of examples, and how their losses are put together. */
export type TaskLossInput = EncoderRows &
  EncoderForwardOptions & {
    readonly targets: TaskTargets;
    /** `mean` over all targets (default), their `sum`, or `none`: one loss a target. */
    readonly reduction?: Reduction;
  };

/** What training, evaluation and prediction need of an encoder with a head; a plain one and one with adapters both have it. */
export interface TaskModel<T extends EncoderTask = EncoderTask> {
  readonly network: EncoderNetwork;
  readonly task: T;
  /** Names of the classes or values that the head answers; none for `masked-lm` and `embedding`. */
  readonly labels: readonly string[];
  readonly tokenizer: Tokenizer;
  readonly hasTokenizer: boolean;
  /** The front end of a model of images or audio. */
  readonly processor?: FrontEnd | undefined;
  readonly config: JsonObject;
  readonly device: Device;
  readonly dtype: DType;
  /** Where it came from: a folder or a hub id. */
  readonly source: string;
  readonly loadedAs?: LoadedAs | undefined;
  /** Parameters that the checkpoint does not have, and the seed that they were drawn from. */
  readonly newParameters?: readonly string[];
  readonly headSeed?: number;
  forward(rows: EncoderRows, options?: EncoderForwardOptions): Tensor;
  loss(input: TaskLossInput): Tensor;
  predict(inputs: readonly PredictInput[], options?: PredictOptions): Promise<Predictions[T][]>;
  embed(inputs: readonly PredictInput[], options?: PredictOptions): Promise<Float32Array[]>;
}
