import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomically } from '../io/atomic-file.js';
import type { DecidingMeasure } from '../tasks/task.js';
import type { TrainingResult } from '../train/run.js';
import type { RunEnvironment } from './environment.js';

/** How a run stands. `running` in the file of a run whose process is gone means that it was killed. */
export type RunStatus = 'running' | 'done' | 'cancelled' | 'failed';

/** What a model says after a prompt, before and after training. */
export interface RunSample {
  readonly prompt: string;
  readonly before?: string;
  readonly after?: string;
}

/** `run.json` of a run folder: what its report says beside recipe and metrics. */
export interface RunRecord {
  readonly status: RunStatus;
  /** Times in ISO 8601. `started` is that of the first process of the run. */
  readonly started: string;
  readonly updated: string;
  readonly trainableParameters: number;
  readonly environment: RunEnvironment;
  readonly samples: readonly RunSample[];
  /** The held-out number that decides which state is the best; absent in older folders: the loss. */
  readonly decides?: DecidingMeasure;
  /** Why a failed run ended. */
  readonly error?: string;
  readonly result?: TrainingResult;
}

const fileOf = (run: string): string => join(run, 'run.json');

/** The record of a run folder; undefined where there is none that can be read. */
export function readRunRecord(run: string): RunRecord | undefined {
  try {
    const record = JSON.parse(readFileSync(fileOf(run), 'utf8')) as Partial<RunRecord> | null;
    return typeof record?.status === 'string' && Array.isArray(record.samples) ? (record as RunRecord) : undefined;
  } catch {
    return undefined;
  }
}

export function writeRunRecord(run: string, record: RunRecord): Promise<void> {
  return writeFileAtomically(fileOf(run), `${JSON.stringify(record, undefined, 2)}\n`);
}
