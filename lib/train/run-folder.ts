import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { ConfigError } from '../errors.js';
import { writeFileAtomically } from '../io/atomic-file.js';
import { takeLock } from './lock.js';

/**
 * The folder of one training run: `recipe.yaml`, `metrics.jsonl`, `adapter/` (last), `best/`, `checkpoints/step-N/`, `lock` while it is in use, and what
 * `RunRecorder` writes.
 * Checkpoints appear complete or not at all.
 */
export class RunFolder {
  readonly path: string;
  readonly #release: () => void;

  private constructor(path: string, release: () => void) {
    this.path = path;
    this.#release = release;
  }

  /** Throws `ConfigError` where `open` would, without touching anything. */
  static check(path: string, resume: boolean): void {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return;
    if (!stat.isDirectory()) throw new ConfigError(`out: "${path}" is a file; expected a folder or nothing`);
    if (!resume && readdirSync(path).length > 0) {
      throw new ConfigError(`out: folder "${path}" exists; resume its run (--resume), or choose another folder`);
    }
  }

  /** Opens a new or empty folder, or with `resume` one that is there, and locks it. */
  static open(path: string, resume: boolean): RunFolder {
    RunFolder.check(path, resume);
    try {
      makeFolder(resolve(path, 'checkpoints'));
    } catch (cause) {
      throw new ConfigError(`out: cannot create folder "${path}"; ${(cause as Error).message}`, { cause });
    }
    return new RunFolder(path, takeLock(path));
  }

  get adapter(): string {
    return join(this.path, 'adapter');
  }

  get best(): string {
    return join(this.path, 'best');
  }

  get #metrics(): string {
    return join(this.path, 'metrics.jsonl');
  }

  get recipe(): string {
    return join(this.path, 'recipe.yaml');
  }

  writeRecipe(yaml: string): Promise<void> {
    return writeFileAtomically(this.recipe, yaml);
  }

  /** Steps of the complete checkpoints, oldest first. */
  checkpoints(): number[] {
    return checkpointSteps(this.path);
  }

  checkpoint(step: number): string {
    return checkpointPath(this.path, step);
  }

  /** Fills a checkpoint under a temporary name, gives it its own, and removes all but the newest `keep`. */
  async writeCheckpoint(step: number, keep: number, fill: (folder: string) => Promise<void>): Promise<void> {
    const path = this.checkpoint(step);
    const temporary = `${path}.tmp`;
    await rm(temporary, { recursive: true, force: true });
    try {
      await fill(temporary);
      await rm(path, { recursive: true, force: true });
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { recursive: true, force: true });
      throw error;
    }
    for (const old of this.checkpoints().slice(0, -keep)) await rm(this.checkpoint(old), { recursive: true, force: true });
  }

  /** Adds one line to `metrics.jsonl`. */
  appendMetrics(row: Readonly<Record<string, unknown>>): void {
    appendFileSync(this.#metrics, `${JSON.stringify(row)}\n`);
  }

  /** Drops what `metrics.jsonl` holds of steps after `step`, and a last line that was cut off. */
  async rewindMetrics(step: number): Promise<void> {
    if (!existsSync(this.#metrics)) return;
    const kept = readFileSync(this.#metrics, 'utf8')
      .split('\n')
      .filter((line) => (stepOf(line) ?? Number.POSITIVE_INFINITY) <= step);
    await writeFileAtomically(this.#metrics, kept.map((line) => `${line}\n`).join(''));
  }

  /** Removes what an interrupted save left behind. */
  removeLeftovers(): void {
    for (const folder of [this.path, join(this.path, 'checkpoints')]) {
      for (const name of readdirSync(folder)) if (name.endsWith('.tmp')) rmSync(join(folder, name), { recursive: true, force: true });
    }
  }

  /** Gives the lock back. */
  close(): void {
    this.#release();
  }
}

/** Makes a folder and its parents one by one: in folders of the system that take no new ones, creating all at once never returns. */
function makeFolder(path: string): void {
  if (existsSync(path)) return;
  makeFolder(dirname(path));
  mkdirSync(path);
}

/** Steps of the complete checkpoints of a run folder, oldest first. */
export function checkpointSteps(run: string): number[] {
  const folder = join(run, 'checkpoints');
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .map((name) => /^step-(\d+)$/.exec(name)?.[1])
    .filter((digits) => digits !== undefined)
    .map(Number)
    .sort((a, b) => a - b);
}

export function checkpointPath(run: string, step: number): string {
  return join(run, 'checkpoints', `step-${step}`);
}

function stepOf(line: string): number | undefined {
  try {
    const { step } = JSON.parse(line) as { step?: unknown };
    return typeof step === 'number' ? step : undefined;
  } catch {
    return undefined;
  }
}
