export {
  type AnswerAccuracy,
  type Answered,
  type AnswerOptions,
  type AnswerProgress,
  answerAccuracy,
  type ResponseOptions,
} from './answer-accuracy.js';
export type { FinishReason, Sample } from './continuation.js';
export { type BeamSample, beamSearch, Generation, generate, generateBatch, sample } from './generate.js';
export type { GenerateOptions, LogitsProcessor, Prompt } from './options.js';
