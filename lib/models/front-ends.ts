import { join } from 'node:path';
import { audioFrontEnd } from '../data/audio.js';
import type { FrontEnd } from '../data/front-end.js';
import { imageFrontEnd } from '../data/image.js';
import { type JsonObject, readJsonObjectIfAny } from '../io/json.js';
import type { EncoderNetwork, Modality } from './encoder.js';

/** What makes a front end of `preprocessor_config.json`, where there is one, the config of the model and the shape of an example of the network. */
type Maker = (settings: JsonObject | undefined, config: JsonObject, example: readonly number[] | undefined) => FrontEnd;

/** The front ends by what they read. */
const frontEnds: { readonly [M in Modality]?: Maker } = {
  image: imageFrontEnd,
  audio: (settings, config) => audioFrontEnd(settings, config),
};

/** The front end of a network that belongs to the model in a folder; undefined for text. Throws `ConfigError` for settings that cannot be. */
export async function readFrontEnd(
  folder: string,
  config: JsonObject,
  { modality, shape }: Pick<EncoderNetwork, 'modality' | 'shape'>,
): Promise<FrontEnd | undefined> {
  const make = frontEnds[modality];
  return make?.(await readJsonObjectIfAny(join(folder, 'preprocessor_config.json')), config, shape.example);
}
