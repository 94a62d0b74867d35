export type { CalibrationBatch, CalibrationData, CalibrationRuns } from '../inits/calibration.js';
export {
  type AdapterForm,
  type AdapterMethod,
  AdapterModule,
  type CommonConfig,
  type CreateContext,
  commonDefaults,
  type LayerCall,
  type LayerParameters,
  type MergeDetails,
  type ParameterRate,
  type PeftFormat,
  type Placement,
  type PortableAdapter,
  type Preparation,
  type TakenKind,
  type TakenPart,
  type Target,
} from './adapter.js';
export { AdapterSet, type Attached, type AttachOptions } from './adapter-set.js';
export type { AdapterRow } from './adapter-table.js';
export { attach, attachMethod } from './attach.js';
export type { BinaryAdapter, BinaryBits, BinaryConfig } from './binary-config.js';
export { type BinaryBase, loadBinaryAdapter, type SaveBinaryOptions, saveBinaryAdapter } from './binary-files.js';
export type { BitFitConfig } from './bitfit.js';
export type { AdapterBlock, BlockAdapterConfig } from './block-adapter-config.js';
export type { BottleneckConfig } from './bottleneck-config.js';
export type { BranchInit } from './branch-start.js';
export { combineAdapters } from './combine/combine.js';
export { type CombinationType, type CombineOptions, type CombinePart, combinationTypes } from './combine/options.js';
export { type ConsistencyWeights, consistencyLoss, hiddenDistance, symmetricKl, type TrainingPass } from './consistency.js';
export type { DeepPromptConfig } from './deep-prompt.js';
export type { FullConfig } from './full.js';
export type { HydraConfig, HydraInit } from './hydra-config.js';
export type { InitialFactors } from './initial-factors.js';
export type { LinearProbeConfig } from './linear-probe.js';
export { AdapterMismatchError, type LoadAdapterOptions, type LoadReport, loadAdapter } from './load.js';
export type { LoraConfig, LoraInit } from './lora-config.js';
export { type LoraPlusGroup, type LoraPlusOptions, loraPlusGroups } from './lora-plus.js';
export type { MergedLayer, MergeOptions, MergeReport } from './merge.js';
export type { MixtureConfig } from './mixture-of-adapters.js';
export type { MosaConfig, MosaConsistency, MosaStyle } from './mosa-config.js';
export type { PTuningConfig } from './p-tuning.js';
export { type AdapterGroup, type AdapterGroupOptions, adapterGroups } from './parameter-rates.js';
export type { PolyAnnealing, PolyConfig, PolyFinetune, RouterGates, RouterGranularity } from './poly-config.js';
export { type RoutingRow, resizeTasks, routing } from './poly-tasks.js';
export type { PrefixConfig } from './prefix.js';
export type { PromptConfig } from './prompt.js';
export { type AdapterConfig, type AdapterName, adapterNames, adapters, type ConfigOf } from './registry.js';
export type { SharedLoraConfig } from './shared-lora.js';
export type { Targets } from './targets.js';
export type { SaveAdapterOptions } from './tuned.js';
export { TunedEncoder } from './tuned-encoder.js';
export { TunedModel } from './tuned-model.js';
