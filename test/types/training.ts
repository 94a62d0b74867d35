// Compiled with the tests and never run: each marked line must not compile.

import { expectTypeOf } from 'expect-type';
import { type StepReport, type TrainingCallbacks, type TrainingResult, type TunedModel, train } from 'lorikeet';

declare const tuned: TunedModel;
const data = { train: { path: 'notes.jsonl' } };

export async function good(): Promise<void> {
  const result = await train(tuned, {
    data,
    training: {
      optimizer: 'adamw-8bit',
      betas: [0.9, 0.95],
      earlyStopping: { patience: 3 },
      policy: { nonFinite: 'skip', lossSpike: 'warn', spikeFactor: 2 },
    },
    callbacks: {
      onStart: ({ step, checkpoint, damaged }) => {
        expectTypeOf(step).toEqualTypeOf<number>();
        expectTypeOf(checkpoint).toEqualTypeOf<string | undefined>();
        expectTypeOf(damaged[0]?.reason).toEqualTypeOf<string | undefined>();
      },
      onStep: async (report) => expectTypeOf(report).toEqualTypeOf<StepReport>(),
      onSkip: ({ skipped }) => expectTypeOf(skipped).toEqualTypeOf<'non-finite' | 'spike'>(),
      onEnd: (end) => {
        if ('result' in end) expectTypeOf(end.result).toEqualTypeOf<TrainingResult>();
        else expectTypeOf(end.error).toEqualTypeOf<unknown>();
      },
    },
  });
  expectTypeOf(result.stoppedEarly).toEqualTypeOf<string | undefined>();
}

export function bad(): void {
  // @ts-expect-error misspelt callback
  train(tuned, { data, callbacks: { onSteps: () => undefined } });
  // @ts-expect-error an evaluation has no loss
  ({ onEvaluation: ({ loss }) => loss }) satisfies TrainingCallbacks;
  // @ts-expect-error unknown optimizer
  train(tuned, { data, training: { optimizer: 'adam' } });
  // @ts-expect-error unknown policy
  train(tuned, { data, training: { policy: { nonFinite: 'warn' } } });
  // @ts-expect-error patience is not optional
  train(tuned, { data, training: { earlyStopping: {} } });
}
