import { layersOf } from '#dist/adapters/inject.js';
import type { Calibration } from '#dist/inits/calibration.js';
import type { InitContext, StartLayer } from '#dist/inits/init.js';
import { Linear, type Module } from '#dist/nn/index.js';
import { hashName } from '#dist/random.js';
import type { DType } from '#dist/tensor.js';

/** What an initialisation is told when `attach` runs it. */
export const contextOf = (
  network: Module,
  data: Calibration,
  options: Partial<InitContext> & { readonly dtype?: DType } = {},
): InitContext => ({
  network,
  dtype: 'f32',
  seed: 0,
  stream: (path, name) => hashName(`${path}.${name}`),
  signal: undefined,
  onProgress: () => {},
  data,
  ...options,
});

/** The linear layers of a network but those tied to an embedding, for a pair of this rank and scale. */
export const startLayers = (network: Module, rank = 2, scale = 1): StartLayer[] =>
  layersOf(network).flatMap(({ path, layer }) =>
    layer instanceof Linear && layer.tiedTo === undefined
      ? [{ path, layer, rank, alpha: rank * scale, scale, dropout: 0, alphaAt: (other) => other * scale }]
      : [],
  );
