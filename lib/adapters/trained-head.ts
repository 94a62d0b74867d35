import type { EncoderModel } from '../encoder-model.js';
import { isIdle } from '../models/encoder.js';
import { Linear } from '../nn/linear.js';
import { layersOf } from './inject.js';
import type { ResolvedConfig } from './resolve-config.js';

/**
 * The config of a new adapter with the head of the model among what is trained and saved whole: that of classes or values in any case, as in PEFT, and whatever was
 * drawn at random because the checkpoint lacks it. A method that brings a head of its own has that in place of it. A `modulesToSave` of one's own stays as it is.
 */
export function withHead({ method, config }: ResolvedConfig, model: EncoderModel): ResolvedConfig {
  if (config.modulesToSave !== null) return { method, config };
  const heads = (method.bringsHead?.(config) ?? false) ? [] : headsOf(model);
  const saved = [...new Set([...heads, ...newLayers(model)])];
  return { method, config: saved.length === 0 ? config : { ...config, modulesToSave: saved } };
}

/** The children of the network that answer with labels. */
const headsOf = ({ network, labels }: EncoderModel): string[] =>
  labels.length === 0
    ? []
    : [...network.namedChildren()].flatMap(([name, child]) =>
        [...child.namedModules()].some(([, { role }]) => role === 'head') ? [name] : [],
      );

/** The layers with new parameters that the task runs; not a decoder that is tied to the embedding, which has none of its own. */
const newLayers = ({ network, labels, newParameters }: EncoderModel): string[] =>
  layersOf(network).flatMap(({ path, layer }) => {
    if (isIdle(network, path)) return [];
    const isNew = newParameters.some((name) => name.slice(0, name.lastIndexOf('.')) === path);
    const isTied = layer instanceof Linear && layer.tiedTo !== undefined;
    return isNew && !isTied && !(labels.length > 0 && layer.role === 'head') ? [path] : [];
  });
