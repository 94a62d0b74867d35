import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ConfigError } from '../errors.js';

/** What a lock file says of its holder. */
interface Holder {
  readonly pid: number;
  /** When that process started, in the system's own units, where it tells; a later process of the same number differs in it. */
  readonly started: string | undefined;
}

export const lockPath = (folder: string): string => join(folder, 'lock');

/**
 * Takes the lock of a run folder: a file `lock` that names the process. The lock of a process that is gone is taken over.
 * Returns a function that gives it back. Throws `ConfigError` when another live process, or another run of this one, holds it.
 */
export function takeLock(folder: string): () => void {
  const path = lockPath(folder);
  for (let attempt = 0; ; attempt++) {
    try {
      const file = openSync(path, 'wx');
      writeSync(file, `${JSON.stringify({ pid: process.pid, started: startOf(process.pid) } satisfies Holder)}\n`);
      closeSync(file);
      return () => release(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || attempt === 3) throw error;
    }
    const holder = readHolder(path);
    if (holder !== undefined && isAlive(holder) && !abandoned.delete(resolve(path))) {
      throw new ConfigError(`run folder "${folder}" is in use by process ${holder.pid}; wait for it, or use another folder`);
    }
    rmSync(path, { force: true });
  }
}

/** Locks that this thread gave back and that the system did not let go, as of a disk that became read-only. */
const abandoned = new Set<string>();

function release(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    abandoned.add(resolve(path));
  }
}

/** Whether a live process works on the run folder. */
export function isHeld(folder: string): boolean {
  const holder = readHolder(lockPath(folder));
  return holder !== undefined && isAlive(holder);
}

function readHolder(path: string): Holder | undefined {
  try {
    const { pid, started } = JSON.parse(readFileSync(path, 'utf8')) as Partial<Holder>;
    return typeof pid === 'number' ? { pid, started } : undefined;
  } catch {
    return undefined;
  }
}

function isAlive({ pid, started }: Holder): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  return started === undefined || startOf(pid) === undefined || startOf(pid) === started;
}

/** Start time of a process in clock ticks since boot; undefined where there is no /proc. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field is the command in parentheses and may hold anything; the start time is the 20th after it.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}
