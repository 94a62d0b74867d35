export * from './adapters/index.js';
export type { FrontEnd, Values } from './data/front-end.js';
export type { DeviceStatus } from './device.js';
export { devices, isaLevel, setThreads, threads } from './device.js';
export { EncoderModel } from './encoder-model.js';
export * from './errors.js';
export * from './estimate/index.js';
export * from './generate/index.js';
export { checkpoint, customGrad } from './gradient.js';
export type { HeadRequest } from './load-encoder.js';
export type { EncoderLoadOptions, LoadModelProgress, LoadOptions } from './load-model.js';
export { loadModel } from './load-model.js';
export type { LoadedAs } from './loaded-model.js';
export type { LanguageModel, LossInput } from './model.js';
export { Model } from './model.js';
export type { Batch, ForwardOptions, TokenRows } from './models/batch.js';
export type { EncoderInput, EncoderNetwork, EncoderTask, Modality } from './models/encoder.js';
export type { EncoderForwardOptions, EncoderRows } from './models/encoder-batch.js';
export type { LoadProgress } from './models/load-weights.js';
export { type SaveModelOptions, saveModel } from './models/save-model.js';
export type { TaskTargets } from './models/task-loss.js';
export type { ModelDType, Nf4Dtype } from './models/weight-storage.js';
export { type Profile, type ProfiledOp, type ProfiledTensor, profile } from './profile.js';
export type { Draw, RandomState } from './random.js';
export { manualSeed, RandomScope, randomState, setRandomState } from './random.js';
export {
  disposeTensors,
  keep,
  memory,
  noGrad,
  resetPeakMemory,
  scope,
  setMemoryLimit,
  synchronize,
  trimMemory,
  unscoped,
} from './scope.js';
export type { PredictInput, Predictions, PredictOptions, TaskLossInput, TaskModel } from './task-model.js';
export type { EmbeddingLossOptions } from './tasks/embedding/config.js';
export {
  cosentLoss,
  cosineLoss,
  cosineMatrix,
  type EmbeddingDistance,
  type MatryoshkaOptions,
  type MultipleNegativesOptions,
  matryoshkaLoss,
  multipleNegativesLoss,
  pairCosines,
  type TripletOptions,
  tripletLoss,
} from './tasks/embedding/losses.js';
export { nearest, type RetrievalScores, retrievalScores, type Vectors } from './tasks/embedding/retrieval.js';
export type { Device, DType, TensorData } from './tensor.js';
export { Tensor } from './tensor.js';
export {
  type BestState,
  type CalibrationBatchOptions,
  calibrationBatches,
  type Evaluated,
  type EvaluateOptions,
  type Evaluation,
  type EvaluationOptions,
  evaluate,
  initialFactorsOf,
  type ReportOptions,
  restoreState,
  type StateParts,
  type StepReport,
  saveState,
  type TaskEvaluation,
  type TrainableEncoder,
  type TrainableModel,
  type TrainingCallbacks,
  type TrainingCheckpoint,
  type TrainingEnd,
  type TrainingEvaluation,
  type TrainingOptions,
  type TrainingResult,
  TrainingRun,
  type TrainingStart,
  type TrainOptions,
  train,
} from './train/index.js';
