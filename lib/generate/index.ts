export {
  type AnswerAccuracy,
  type Answered,
  type AnswerOptions,
  type AnswerProgress,
  answerAccuracy,
  type ResponseOptions,
} from './answer-accuracy.js';
export { type FinishReason, Generation, generate, generateBatch, type Sample, sample } from './generate.js';
export type { GenerateOptions, LogitsProcessor, Prompt } from './options.js';
