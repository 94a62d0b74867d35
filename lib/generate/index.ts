export { type FinishReason, generate, generateBatch, Generation, type Sample, sample } from './generate.js';
export type { GenerateOptions, LogitsProcessor, Prompt } from './options.js';
