import { EncoderModel } from '../encoder-model.js';
import type { AdaptedModel, Tuned } from './tuned.js';
import { TunedEncoder } from './tuned-encoder.js';
import { TunedModel } from './tuned-model.js';

/** The tuned form of a language model or an encoder: the one it has, or a new one without adapters. */
export const tunedOf = (model: AdaptedModel | TunedModel | TunedEncoder): Tuned<AdaptedModel> =>
  model instanceof EncoderModel || model instanceof TunedEncoder ? TunedEncoder.of(model) : TunedModel.of(model);
