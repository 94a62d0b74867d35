import { existsSync, readFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { parse } from 'yaml';
import { isHeld } from '../train/lock.js';
import { type RunRecord, type RunStatus, readRunRecord } from './run-record.js';

/** A row of `metrics.jsonl` that tells of a step. Rows of older folders may lack the memory fields. */
export interface StepRow {
  readonly step: number;
  readonly loss: number;
  readonly learningRate: number;
  readonly gradNorm: number;
  readonly tokens: number;
  readonly seconds: number;
  /** Highest number of bytes of native memory in use at once so far. */
  readonly peakBytes?: number;
  /** Bytes of physical memory of the process after the step. */
  readonly residentBytes?: number;
  /** Why the update of the step was left out. */
  readonly skipped?: string;
}

/** What a row says of a step whose update was left out. Its loss may be null: not finite. */
export interface SkippedRow {
  readonly step: number;
  readonly skipped: string;
}

/** A row that tells of an evaluation. */
export interface EvaluationRow {
  readonly step: number;
  readonly evalLoss: number;
  /** Metrics of the task, where it has some. */
  readonly evalMetrics?: Readonly<Record<string, number>>;
  /** Whether the metric that decides was the best so far. */
  readonly isBest?: boolean;
}

/** Everything that a run folder says about its run. */
export interface RunData {
  readonly path: string;
  readonly name: string;
  readonly steps: readonly StepRow[];
  readonly evaluations: readonly EvaluationRow[];
  readonly skips: readonly SkippedRow[];
  /** `recipe.yaml` as it stands, and as an object; empty where it is missing. */
  readonly recipeText: string;
  readonly recipe: Readonly<Record<string, unknown>>;
  readonly record: RunRecord | undefined;
  readonly status: RunStatus | 'killed' | 'unknown';
  /** What could not be read. */
  readonly problems: readonly string[];
}

/** Reads a run folder. Broken lines and missing files are among the problems, never an error. */
export function readRun(path: string): RunData {
  const problems: string[] = [];
  const rows = readMetrics(join(path, 'metrics.jsonl'), problems);
  const record = readRunRecord(path);
  const recipeFile = join(path, 'recipe.yaml');
  const recipeText = existsSync(recipeFile) ? readFileSync(recipeFile, 'utf8') : '';
  const killed = record?.status === 'running' && !isHeld(path);
  return {
    path,
    name: basename(resolve(path)),
    steps: rows.filter(isStepRow),
    evaluations: rows.filter(isEvaluationRow),
    skips: rows.filter(isSkippedRow),
    recipeText,
    recipe: parseYaml(recipeText, problems),
    record,
    status: killed ? 'killed' : (record?.status ?? 'unknown'),
    problems,
  };
}

type Row = Readonly<Record<string, unknown>>;

const isStepRow = (row: Row): row is Row & StepRow => typeof row.step === 'number' && typeof row.loss === 'number';
const isEvaluationRow = (row: Row): row is Row & EvaluationRow => typeof row.step === 'number' && typeof row.evalLoss === 'number';
const isSkippedRow = (row: Row): row is Row & SkippedRow => typeof row.step === 'number' && typeof row.skipped === 'string';

function readMetrics(file: string, problems: string[]): Row[] {
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .flatMap((line, index) => {
      if (line === '') return [];
      try {
        const row: unknown = JSON.parse(line);
        if (typeof row === 'object' && row !== null) return [row as Row];
      } catch {
        // Told below, like every other line that is no object.
      }
      problems.push(`metrics.jsonl:${index + 1} is not JSON`);
      return [];
    });
}

function parseYaml(text: string, problems: string[]): Row {
  try {
    const value: unknown = parse(text);
    return typeof value === 'object' && value !== null ? (value as Row) : {};
  } catch (error) {
    problems.push(`recipe.yaml is not YAML; ${(error as Error).message.split('\n')[0]}`);
    return {};
  }
}
