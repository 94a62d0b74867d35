export type { AdamWOptions, AdamWSettings } from './adamw.js';
export { AdamW } from './adamw.js';
export { clipGradNorm, clipScale, globalNorm, gradientNorm, nonFiniteCount, nonFiniteGradients } from './clip.js';
export type { OptimizerState, StepOptions } from './optimizer.js';
export { Optimizer } from './optimizer.js';
export type { Group, ParameterGroup } from './parameter-groups.js';
export * from './schedules.js';
export type { SGDOptions, SGDSettings } from './sgd.js';
export { SGD } from './sgd.js';
