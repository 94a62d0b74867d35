import type { TrainingCallbacks } from '../index.js';
import type { Output } from './output.js';

/** What is told about a run beside its progress. */
export function runMessages(output: Output): TrainingCallbacks {
  return {
    onStart: ({ step, checkpoint, damaged }) => {
      for (const { path, reason } of damaged) output.message(`a damaged checkpoint was set aside as ${path}: ${reason}`);
      if (checkpoint !== undefined) output.message(`going on from ${checkpoint} (step ${step})`);
    },
    onStep: ({ step, loss, spike }) => {
      if (spike) output.message(`step ${step}: the loss ${loss.toFixed(4)} is far above the last ones`);
    },
    onAnswers: ({ step, rows, right, total }) => output.progress(step, [`answers ${rows} of ${total}, ${right} right`]),
    onSkip: ({ step, loss, skipped }) => output.message(`step ${step} skipped (${skipped}): loss ${loss.toFixed(4)}`),
  };
}
