// What a process holds, measured after garbage collection.
import { getEventListeners } from 'node:events';
import { readdirSync } from 'node:fs';
import { memory, trimMemory } from '../../dist/index.js';

const count = (folder) => readdirSync(folder).length;
const turn = () => new Promise((resolve) => setImmediate(resolve));

/**
 * Collects until finalizers have run, gives the allocator's cache back to the system, then measures: the size of that cache depends on which threads did what.
 * `signal`: a signal that was given to many calls.
 */
export async function usage(signal) {
  for (let i = 0; i < 3; i++) {
    globalThis.gc();
    await turn();
  }
  const { tensors, bytes, cachedBytes } = memory();
  trimMemory();
  const { rss, heapUsed, external } = process.memoryUsage();
  return {
    tensors,
    nativeBytes: bytes,
    cachedBytes,
    heapUsed,
    external,
    rss,
    files: count('/proc/self/fd'),
    threads: count('/proc/self/task'),
    handles: process.getActiveResourcesInfo().length,
    listeners: process.eventNames().reduce((sum, name) => sum + process.listenerCount(name), getEventListeners(signal, 'abort').length),
  };
}
