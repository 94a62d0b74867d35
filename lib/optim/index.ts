export { AdamW } from './adamw.js';
export type { AdamWOptions, AdamWSettings } from './adamw.js';
export { clipGradNorm, clipScale, globalNorm, gradientNorm, nonFiniteCount, nonFiniteGradients } from './clip.js';
export { Optimizer } from './optimizer.js';
export type { OptimizerState, StepOptions } from './optimizer.js';
export type { Group, ParameterGroup } from './parameter-groups.js';
export * from './schedules.js';
export { SGD } from './sgd.js';
export type { SGDOptions, SGDSettings } from './sgd.js';
