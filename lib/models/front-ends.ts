import { join } from 'node:path';
import { audioFrontEnd } from '../data/audio.js';
import type { FrontEnd } from '../data/front-end.js';
import { imageFrontEnd } from '../data/image.js';
import { type JsonObject, readJsonObjectIfAny } from '../io/json.js';
import type { Modality } from './encoder.js';

/** The front ends by what they read; each is made from `preprocessor_config.json`, where there is one, and the config of the model. */
const frontEnds: { readonly [M in Modality]?: (settings: JsonObject | undefined, config: JsonObject) => FrontEnd } = {
  image: imageFrontEnd,
  audio: audioFrontEnd,
};

/** The front end that belongs to the model in a folder; undefined for text. Throws `ConfigError` for settings that cannot be. */
export async function readFrontEnd(folder: string, config: JsonObject, modality: Modality): Promise<FrontEnd | undefined> {
  const make = frontEnds[modality];
  return make?.(await readJsonObjectIfAny(join(folder, 'preprocessor_config.json')), config);
}
