import type { JsonObject } from '../io/json.js';
import { readJsonObjectIfAny } from '../io/json.js';
import type { Modality } from './encoder.js';

/** One example as an encoder of images or audio reads it: [C, H, W], or [T, M]. */
export interface ExampleValues {
  readonly values: Float32Array;
  readonly shape: readonly number[];
}

/** The front end of an encoder of images or audio: makes of a file what the network reads. */
export interface Processor {
  /** What it is called in messages. */
  readonly name: string;
  /** Throws `FormatError` naming the file where it is no image or recording that can be read. */
  read(file: string, signal?: AbortSignal): Promise<ExampleValues>;
}

/** Makes a front end from `preprocessor_config.json`, where there is one, and the config of the model. */
export type MakeProcessor = (settings: JsonObject | undefined, config: JsonObject) => Processor;

/** The front ends by what they read. */
const processors: { readonly [M in Modality]?: MakeProcessor } = {};

/** The front end that belongs to the model in a folder; undefined for text, and where there is none for its kind of input. */
export async function readProcessor(folder: string, config: JsonObject, modality: Modality): Promise<Processor | undefined> {
  const make = processors[modality];
  return make?.(await readJsonObjectIfAny(`${folder}/preprocessor_config.json`), config);
}
