import { readFileSync } from 'node:fs';
import { freemem } from 'node:os';
import { join } from 'node:path';

/**
 * Bytes that this process can still take: what the system calls available, and no more than what is left below the limit of its control group
 * (containers; version 1 and 2). `root` is where `/proc` and `/sys` are.
 */
export function availableMemory(root = '/'): number {
  const system = fromMeminfo(root) ?? freemem();
  return Math.max(0, Math.min(system, ...groupRooms(root)));
}

function fromMeminfo(root: string): number | undefined {
  const kilobytes = /^MemAvailable:\s+(\d+) kB$/m.exec(readText(join(root, 'proc/meminfo')))?.[1];
  return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
}

/** What is left in each control group that this process is in, its parents included. */
function groupRooms(root: string): number[] {
  const rooms: number[] = [];
  for (const line of readText(join(root, 'proc/self/cgroup')).split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (path === undefined) continue;
    const isSecond = controllers === '';
    if (!isSecond && !controllers?.split(',').includes('memory')) continue;
    const mount = join(root, 'sys/fs/cgroup', isSecond ? '' : 'memory');
    const [limitFile, useFile, cacheKey] = isSecond
      ? (['memory.max', 'memory.current', 'inactive_file'] as const)
      : (['memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file'] as const);
    // Inside a container the path may be that of the host, where only the mount itself can be seen.
    for (let folder = path; ; folder = join(folder, '..')) {
      const limit = Number.parseInt(readText(join(mount, folder, limitFile)), 10);
      const use = Number.parseInt(readText(join(mount, folder, useFile)), 10);
      const cache = Number(new RegExp(`^${cacheKey} (\\d+)$`, 'm').exec(readText(join(mount, folder, 'memory.stat')))?.[1] ?? 0);
      if (Number.isFinite(limit) && Number.isFinite(use)) rooms.push(limit - use + cache);
      if (folder === '/' || folder === '.' || folder === '') break;
    }
  }
  return rooms;
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
