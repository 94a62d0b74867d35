export { attend } from './attention.js';
export { BatchNorm1d, type BatchNormOptions } from './batch-norm.js';
export { KeyValueCache } from './cache.js';
export { type ForwardContext, inference, type RowAdapters, type TaskId } from './context.js';
export { Conv, Conv1d, Conv2d, type ConvLayerOptions } from './conv.js';
export { Dropout } from './dropout.js';
export { Embedding } from './embedding.js';
export { forwardAll } from './forward-all.js';
export { type HiddenState, HiddenStates } from './hidden-states.js';
export type { LayerOptions } from './init.js';
export { Linear, type LinearOptions } from './linear.js';
export { Layer, Module, ModuleList, type Parameter, Sequential } from './module.js';
export { LayerNorm, type NormedSum, type NormOptions, normOfSum, RmsNorm } from './norm.js';
export type { AttentionPrefix, KeyValuePrefix, RowPrefixes } from './prefix.js';
export type { Role } from './role.js';
export {
  contextLengthOf,
  type RopeParameters,
  RotaryEmbedding,
  type RotaryTables,
  rotaryFrequencies,
  rotate,
  type TokenPlaces,
} from './rope.js';
export { type SublayerCall, type SublayerHook, type SublayerInput, type SublayerPoint, sublayer } from './sublayer.js';
export { Front, TokenNetwork, type TokenShape, type VirtualTokenSource, type VirtualTokens, withFront } from './virtual-tokens.js';
