import { randomBytes } from 'node:crypto';
import { closeSync, fstatSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ConfigError } from '../errors.js';

/** What a lock file says of its holder. */
interface Holder {
  readonly pid: number;
  /** When that process started, in the system's own units, where it tells; a later process of the same number differs in it. */
  readonly started: string | undefined;
  /** Differs for each time a lock is taken. */
  readonly token: string | undefined;
  /** Its open file of the lock. Node closes it when the worker thread that took the lock is terminated, while the process lives on. */
  readonly file: number | undefined;
}

/** The lock of a run folder: a file `lock` that names the process. */
export class RunLock {
  readonly #path: string;
  readonly #token: string;
  readonly #file: number;

  private constructor(path: string, token: string, file: number) {
    this.#path = path;
    this.#token = token;
    this.#file = file;
  }

  /**
   * Takes the lock; that of a process or worker thread that is gone is taken over. Throws `ConfigError` when another live process, or another run of this one, holds it.
   */
  static take(folder: string): RunLock {
    const path = resolve(folder, 'lock');
    const token = randomBytes(8).toString('hex');
    for (let attempt = 0; ; attempt++) {
      try {
        const file = writeHolder(path, token);
        return new RunLock(path, token, file);
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

  /** Whether the file is there and says so: two processes that take over the lock of a third at once both believe that they have it, and one has not. */
  get isOurs(): boolean {
    return readHolder(this.#path)?.token === this.#token;
  }

  /** A file that the system does not let go, as on a disk that became read-only, counts no more once it is closed. */
  release(): void {
    const isOurs = this.isOurs;
    closeSync(this.#file);
    if (!isOurs) return;
    try {
      rmSync(this.#path, { force: true });
    } catch {
      return;
    }
  }
}

/** Writes a new lock file; returns the number of the file opened for reading, which lets a disk become read-only. */
function writeHolder(path: string, token: string): number {
  const written = openSync(path, 'wx');
  try {
    const file = openSync(path, 'r');
    writeSync(written, `${JSON.stringify({ pid: process.pid, started: statOf(process.pid)?.started, token, file } satisfies Holder)}\n`);
    return file;
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  } finally {
    closeSync(written);
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
    const { pid, started, token, file } = JSON.parse(readFileSync(path, 'utf8')) as Partial<Holder>;
    return typeof pid === 'number' ? { pid, started, token, file } : undefined;
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
  const found = statOf(pid);
  // A zombie has ended; only its parent has not asked yet.
  if (found !== undefined && (found.state === 'Z' || (started !== undefined && found.started !== started))) return false;
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

/** State of a process, and its start time in clock ticks since boot; undefined where there is no /proc. */
function statOf(pid: number): { readonly state: string | undefined; readonly started: string | undefined } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field is the command in parentheses and may hold anything; the state follows it, and 19 fields later the start time.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0], started: fields[19] };
  } catch {
    return undefined;
  }
}
