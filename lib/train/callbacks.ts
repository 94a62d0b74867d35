import type { AnswerProgress } from '../generate/answer-accuracy.js';
import type { Evaluated, StepReport, TrainingResult } from './run.js';

/** What `onStart` gets. */
export interface TrainingStart {
  /** Steps that are done: 0, or those of the checkpoint gone on from. */
  readonly step: number;
  /** Steps of the whole run. */
  readonly steps: number;
  readonly trainableParameters: number;
  /** Folder of the checkpoint gone on from. */
  readonly checkpoint?: string;
  /** Newer checkpoints that are damaged and were set aside: where they are now and what is wrong with each. */
  readonly damaged: readonly { readonly path: string; readonly reason: string }[];
}

/** What `onEvaluation` gets. */
export interface TrainingEvaluation extends Evaluated {
  readonly step: number;
  /** Whether it is the best so far: of the lowest loss, or of the best metric where the task is decided by one. */
  readonly isBest: boolean;
}

/** What `onCheckpoint` gets. */
export interface TrainingCheckpoint {
  readonly step: number;
  /** Its folder, complete. */
  readonly path: string;
}

/** How a run ended: with its result, or with an error (cancelled ones are `CancelledError`). */
export type TrainingEnd = { readonly step: number; readonly result: TrainingResult } | { readonly step: number; readonly error: unknown };

/**
 * Functions called during a run, each awaited before it goes on; they run between steps. One that throws ends the run with its error, the state of the last
 * step saved.
 */
export interface TrainingCallbacks {
  /** Before the first step, after a checkpoint was restored. */
  readonly onStart?: (start: TrainingStart) => unknown;
  /** After each step, skipped ones included; evaluation and checkpoint of the step follow. */
  readonly onStep?: (report: StepReport) => unknown;
  /** After `onStep` of a step whose update a policy left out. */
  readonly onSkip?: (report: StepReport & { readonly skipped: 'non-finite' | 'spike' }) => unknown;
  /** During an evaluation that generates answers, after each batch of them; not awaited. */
  readonly onAnswers?: (progress: AnswerProgress & { readonly step: number }) => unknown;
  readonly onEvaluation?: (evaluation: TrainingEvaluation) => unknown;
  readonly onCheckpoint?: (checkpoint: TrainingCheckpoint) => unknown;
  /** Last of all, however the run ends; everything is saved. */
  readonly onEnd?: (end: TrainingEnd) => unknown;
}
