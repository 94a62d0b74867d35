import { z } from 'zod';

const metrics = z.record(z.string(), z.number());

/** The numbers of a run folder, in the JSON of `inspect` and `compare`. What a folder does not know is left out. */
export const runOutput = z.strictObject({
  status: z.enum(['done', 'running', 'cancelled', 'failed', 'killed', 'unknown']),
  steps: z.int().describe('last step'),
  skippedSteps: z.int().describe('steps whose update was left out by `training.policy`'),
  stoppedEarly: z.string().optional().describe('why the run ended before its last step'),
  plannedSteps: z.number().optional(),
  loss: z.number().optional().describe('loss of the last step'),
  recentLoss: z.number().optional().describe('mean of the last tenth of the steps'),
  evalLoss: z.number().optional(),
  evalMetrics: metrics.optional().describe('last metrics of the task'),
  best: z
    .strictObject({ step: z.int(), evalLoss: z.number(), evalMetrics: metrics.optional() })
    .optional()
    .describe('the evaluation with the lowest held-out loss, or the best metric where the task is decided by one'),
  tokens: z.number(),
  tokensPerSecond: z.number(),
  seconds: z.number().describe('wall time of all steps'),
  peakBytes: z.number().optional(),
  trainableParameters: z.number().optional(),
});
