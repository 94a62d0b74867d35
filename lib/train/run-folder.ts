import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, type Stats, statSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { ConfigError, IoError } from '../errors.js';
import { syncFolder, writeFileAtomically } from '../io/atomic-file.js';
import { writing, writingSync } from '../io/io-error.js';
import { RunLock } from './lock.js';

/** End of the name of a checkpoint while another one of the same step takes its place. */
const kReplaced = '.replaced.tmp';

/**
 * The folder of one training run: `recipe.yaml`, `metrics.jsonl`, `adapter/` (last), `best/`, `checkpoints/step-N/`, `lock` while it is in use, and what
 * `RunRecorder` writes.
 * Checkpoints appear complete or not at all.
 */
export class RunFolder {
  readonly path: string;
  readonly #lock: RunLock;

  private constructor(path: string, lock: RunLock) {
    this.path = path;
    this.#lock = lock;
  }

  /** Throws `ConfigError` where `open` would, without touching anything. */
  static check(path: string, resume: boolean): void {
    const stat = statOf(path);
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
      throw cannotCreate(path, cause);
    }
    return new RunFolder(
      path,
      writingSync(path, () => RunLock.take(path)),
    );
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

  hasCheckpoint(step: number): boolean {
    return existsSync(this.checkpoint(step));
  }

  /**
   * Fills a checkpoint under a temporary name, gives it its own, and removes all but the newest `keep`. A checkpoint appears whole or not at all, also after a
   * power loss, and the metrics up to it are on the disk before it.
   */
  async writeCheckpoint(step: number, keep: number, fill: (folder: string) => Promise<void>): Promise<void> {
    const path = this.checkpoint(step);
    const temporary = `${path}.tmp`;
    const replaced = `${path}${kReplaced}`;
    this.requireHeld();
    await writing(path, async () => {
      await rm(temporary, { recursive: true, force: true });
      try {
        await fill(temporary);
        await this.#syncMetrics();
        if (existsSync(path)) await rename(path, replaced);
        await rename(temporary, path);
        await syncFolder(dirname(path));
      } catch (error) {
        await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
        if (!existsSync(path)) await rename(replaced, path).catch(() => undefined);
        throw error;
      }
      await rm(replaced, { recursive: true, force: true });
      for (const old of this.checkpoints().slice(0, -keep)) await this.#remove(this.checkpoint(old));
    });
  }

  /** Takes a damaged checkpoint out of the list, without removing it; returns where it is. */
  setAside(step: number): string {
    const path = `${this.checkpoint(step)}.damaged`;
    return writingSync(path, () => {
      rmSync(path, { recursive: true, force: true });
      renameSync(this.checkpoint(step), path);
      return path;
    });
  }

  /** A checkpoint leaves the list before its files go, so that none in the list is half removed. */
  async #remove(path: string): Promise<void> {
    const leaving = `${path}.old.tmp`;
    await rename(path, leaving);
    await rm(leaving, { recursive: true, force: true });
  }

  /** Throws `IoError` when the folder was removed, or taken over, since it was opened: nothing may be written to what is there instead. */
  requireHeld(): void {
    if (this.#lock.isOurs) return;
    throw new IoError(`write: run folder "${this.path}" has lost its lock; it was removed, or taken over, while the run went on`);
  }

  /** Adds one line to `metrics.jsonl`. */
  appendMetrics(row: Readonly<Record<string, unknown>>): void {
    this.requireHeld();
    writingSync(this.#metrics, () => appendFileSync(this.#metrics, `${JSON.stringify(row)}\n`));
  }

  async #syncMetrics(): Promise<void> {
    if (!existsSync(this.#metrics)) return;
    const file = await open(this.#metrics, 'r+');
    await file.sync().finally(() => file.close());
  }

  /** Drops what `metrics.jsonl` holds of steps after `step` and of evaluations after `evaluatedStep`, and a last line that was cut off. */
  async rewindMetrics(step: number, evaluatedStep: number): Promise<void> {
    if (!existsSync(this.#metrics)) return;
    const kept = readFileSync(this.#metrics, 'utf8')
      .split('\n')
      .filter((line) => {
        const row = rowOf(line);
        return row !== undefined && row.step <= ('evalLoss' in row ? evaluatedStep : step);
      });
    await writeFileAtomically(this.#metrics, kept.map((line) => `${line}\n`).join(''));
  }

  /** Removes what an interrupted save left behind; a checkpoint that was about to be replaced comes back. */
  removeLeftovers(): void {
    const checkpoints = join(this.path, 'checkpoints');
    writingSync(this.path, () => {
      for (const name of readdirSync(checkpoints).filter((name) => name.endsWith(kReplaced))) {
        const replaced = join(checkpoints, name.slice(0, -kReplaced.length));
        if (!existsSync(replaced)) renameSync(join(checkpoints, name), replaced);
      }
      for (const folder of [this.path, checkpoints, ...foldersIn(this.adapter), ...foldersIn(this.best)]) {
        for (const name of readdirSync(folder)) if (name.endsWith('.tmp')) rmSync(join(folder, name), { recursive: true, force: true });
      }
    });
  }

  /** Gives the lock back. */
  close(): void {
    this.#lock.release();
  }
}

/** A folder, where it is there, and those below it: one of each adapter where several are trained. */
function foldersIn(path: string): string[] {
  if (!statOf(path)?.isDirectory()) return [];
  const below = readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return [path, ...below.map(({ name }) => join(path, name))];
}

const cannotCreate = (path: string, cause: unknown): ConfigError =>
  new ConfigError(`out: cannot create folder "${path}"; ${(cause as Error).message}`, { cause });

function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (cause) {
    throw cannotCreate(path, cause);
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

function rowOf(line: string): { readonly step: number } | undefined {
  try {
    const row = JSON.parse(line) as { step?: unknown };
    return typeof row.step === 'number' ? (row as { step: number }) : undefined;
  } catch {
    return undefined;
  }
}
