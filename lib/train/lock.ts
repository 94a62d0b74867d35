import { closeSync, fstatSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError } from '../errors.js';

/** What a lock file says of its holder. */
interface Holder {
  readonly pid: number;
  /** When that process started, in the system's own units, where it tells; a later process of the same number differs in it. */
  readonly started: string | undefined;
  /** Its open file of the lock. Node closes it when the worker thread that took the lock is terminated, while the process lives on. */
  readonly file: number | undefined;
}

/**
 * Takes the lock of a run folder: a file `lock` that names the process. The lock of a process or worker thread that is gone is taken over.
 * Returns a function that gives it back. Throws `ConfigError` when another live process, or another run of this one, holds it.
 */
export function takeLock(folder: string): () => void {
  const path = join(folder, 'lock');
  for (let attempt = 0; ; attempt++) {
    try {
      const file = openSync(path, 'wx');
      writeSync(file, `${JSON.stringify({ pid: process.pid, started: startOf(process.pid), file } satisfies Holder)}\n`);
      return () => {
        closeSync(file);
        rmSync(path, { force: true });
      };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || attempt === 3) throw error;
    }
    const holder = readHolder(path);
    if (holder !== undefined && isAlive(holder, path)) {
      throw new ConfigError(`run folder "${folder}" is in use by process ${holder.pid}; wait for it, or use another folder`);
    }
    rmSync(path, { force: true });
  }
}

/** Whether a live process works on the run folder. */
export function isHeld(folder: string): boolean {
  const path = join(folder, 'lock');
  const holder = readHolder(path);
  return holder !== undefined && isAlive(holder, path);
}

function readHolder(path: string): Holder | undefined {
  try {
    const { pid, started, file } = JSON.parse(readFileSync(path, 'utf8')) as Partial<Holder>;
    return typeof pid === 'number' ? { pid, started, file } : undefined;
  } catch {
    return undefined;
  }
}

function isAlive({ pid, started, file }: Holder, path: string): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  if (started !== undefined && startOf(pid) !== undefined && startOf(pid) !== started) return false;
  return pid !== process.pid || file === undefined || isOpen(file, path);
}

/** Whether the file of this number in this process is the one at `path`. */
function isOpen(file: number, path: string): boolean {
  try {
    const [open, there] = [fstatSync(file), statSync(path)];
    return open.ino === there.ino && open.dev === there.dev;
  } catch {
    return false;
  }
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
