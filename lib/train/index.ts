export { type CalibrationBatchOptions, calibrationBatches } from './calibration-batches.js';
export type { TrainingCallbacks, TrainingCheckpoint, TrainingEnd, TrainingEvaluation, TrainingStart } from './callbacks.js';
export { restoreState, type StateParts, saveState } from './checkpoint.js';
export { type EvaluateOptions, type Evaluation, evaluate, type TaskEvaluation } from './evaluate.js';
export type { ReportOptions, TrainingOptions, TrainOptions } from './options.js';
export { initialFactorsOf } from './resume.js';
export { type BestState, type Evaluated, type StepReport, type TrainingResult, TrainingRun } from './run.js';
export { train } from './train.js';
export type { TrainableEncoder, TrainableModel } from './trainable.js';
