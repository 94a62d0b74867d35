import { EncoderModel } from '../encoder-model.js';
import { Model } from '../model.js';
import type { Module } from '../nn/module.js';
import { AdapterSet, adaptersOn } from './adapter-set.js';
import { type AdaptedModel, Tuned } from './tuned.js';
import { TunedEncoder } from './tuned-encoder.js';
import { TunedModel } from './tuned-model.js';

/** The tuned form of a language model or an encoder: the one it has, or a new one without adapters. */
export const tunedOf = (model: AdaptedModel | TunedModel | TunedEncoder): Tuned<AdaptedModel> =>
  model instanceof EncoderModel || model instanceof TunedEncoder ? TunedEncoder.of(model) : TunedModel.of(model);

/** A model with or without adapters, the adapters of a network, or a network. */
export type AdapterBase = AdaptedModel | TunedModel | TunedEncoder | AdapterSet | Module;

/** The adapters on a base: those it has, or a new set without any. */
export function adaptersOf(base: AdapterBase): AdapterSet {
  if (base instanceof Model || base instanceof EncoderModel || base instanceof Tuned) return tunedOf(base as TunedModel).adapters;
  return base instanceof AdapterSet ? base : (adaptersOn(base) ?? new AdapterSet(base));
}
