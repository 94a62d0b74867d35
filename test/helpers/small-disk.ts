import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { temporaryFolder } from './command-line.js';

/** A small file system of its own, unmounted when the test ends. */
export interface SmallDisk {
  readonly path: string;
  /** Leaves so many bytes free. */
  fill(free: number): void;
  /** Leaves no inode free. */
  useInodes(): void;
  empty(): void;
  setWritable(writable: boolean): void;
}

/** Mounts one; undefined, with the reason logged, where this user or system cannot. */
export function smallDisk(t: ExecutionContext, bytes: number, inodes = 10_000): SmallDisk | undefined {
  const path = join(temporaryFolder(), 'disk');
  mkdirSync(path);
  const mount = (...args: string[]) => spawnSync('mount', args, { encoding: 'utf8' });
  const mounted = mount('-t', 'tmpfs', '-o', `size=${bytes},nr_inodes=${inodes}`, 'tmpfs', path);
  if (mounted.status !== 0) {
    t.log(`skipped: no file system can be mounted here (${(mounted.stderr ?? String(mounted.error)).trim()})`);
    t.pass();
    return undefined;
  }
  t.teardown(() => spawnSync('umount', ['-l', path]));
  const filler = join(path, 'filler');
  return {
    path,
    fill: (free) => {
      let size = bytes;
      for (let step = bytes; step >= 4096; step = step / 2) {
        // The largest file that fits, by halving.
        rmSync(filler, { force: true });
        const fits = tryWrite(filler, size);
        if (fits && size === bytes) break;
        size += fits ? step / 2 : -step / 2;
      }
      rmSync(filler, { force: true });
      writeFileSync(filler, Buffer.alloc(Math.max(0, Math.floor(size - 8192 - free))));
    },
    useInodes: () => {
      mkdirSync(filler);
      let made = true;
      for (let i = 0; made; i++) made = tryWrite(join(filler, String(i)), 0);
    },
    empty: () => rmSync(filler, { recursive: true, force: true }),
    setWritable: (writable) => void mount('-o', `remount,${writable ? 'rw' : 'ro'}`, path),
  };
}

function tryWrite(path: string, bytes: number): boolean {
  try {
    writeFileSync(path, Buffer.alloc(bytes));
    return true;
  } catch {
    return false;
  }
}
