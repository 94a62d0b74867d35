import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ConfigError } from '../errors.js';

/** What a lock file says of its holder. */
interface Holder {
  readonly pid: number;
  /** When that process started, in the system's own units, where it tells; a later process of the same number differs in it. */
  readonly started: string | undefined;
  /** Differs for each time a lock is taken. */
  readonly token: string | undefined;
}

/** Tokens of locks that this thread gave back and that the system did not let go, as of a disk that became read-only. */
const abandoned = new Set<string>();

/** The lock of a run folder: a file `lock` that names the process. */
export class RunLock {
  readonly #path: string;
  readonly #token: string;

  private constructor(path: string, token: string) {
    this.#path = path;
    this.#token = token;
  }

  /**
   * Takes the lock; that of a process that is gone is taken over. Throws `ConfigError` when another live process, or another run of this one, holds it.
   */
  static take(folder: string): RunLock {
    const path = resolve(folder, 'lock');
    const token = randomBytes(8).toString('hex');
    for (let attempt = 0; ; attempt++) {
      try {
        const file = openSync(path, 'wx');
        writeSync(file, `${JSON.stringify({ pid: process.pid, started: statOf(process.pid)?.started, token } satisfies Holder)}\n`);
        closeSync(file);
        return new RunLock(path, token);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || attempt === 3) throw error;
      }
      const holder = readHolder(path);
      if (holder !== undefined && isAlive(holder) && !abandoned.has(String(holder.token))) {
        throw new ConfigError(`run folder "${folder}" is in use by process ${holder.pid}; wait for it, or use another folder`);
      }
      rmSync(path, { force: true });
    }
  }

  /** Whether the file is there and says so: two processes that take over the lock of a third at once both believe that they have it, and one has not. */
  get isOurs(): boolean {
    return readHolder(this.#path)?.token === this.#token;
  }

  release(): void {
    if (!this.isOurs) return;
    try {
      rmSync(this.#path, { force: true });
    } catch {
      abandoned.add(this.#token);
    }
  }
}

/** Whether a live process works on the run folder. */
export function isHeld(folder: string): boolean {
  const holder = readHolder(join(folder, 'lock'));
  return holder !== undefined && isAlive(holder);
}

function readHolder(path: string): Holder | undefined {
  try {
    const { pid, started, token } = JSON.parse(readFileSync(path, 'utf8')) as Partial<Holder>;
    return typeof pid === 'number' ? { pid, started, token } : undefined;
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
  const found = statOf(pid);
  // A zombie has ended; only its parent has not asked yet.
  return found === undefined || (found.state !== 'Z' && (started === undefined || found.started === started));
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
