import { once } from 'node:events';
import { closeSync, fstatSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { isHeld, RunLock } from '#dist/train/lock.js';
import { temporaryFolder } from '../helpers/adapters.js';

/** A worker thread that takes the lock of a folder, says so, and stays. */
async function lockingWorker(folder: string): Promise<Worker> {
  const code = `
import { parentPort } from 'node:worker_threads';
import { RunLock } from ${JSON.stringify(import.meta.resolve('#dist/train/lock.js'))};
RunLock.take(${JSON.stringify(folder)});
parentPort.postMessage('taken');
setInterval(() => undefined, 1000);`;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), { execArgv: [] });
  await once(worker, 'message');
  return worker;
}

test('the lock of a live worker thread holds; that of a terminated one does not', async (t) => {
  const folder = temporaryFolder();
  t.teardown(() => rmSync(folder, { recursive: true }));
  const worker = await lockingWorker(folder);
  t.true(isHeld(folder));
  t.throws(() => RunLock.take(folder), {
    message: `run folder "${folder}" is in use by process ${process.pid}; wait for it, or use another folder`,
  });
  await worker.terminate();
  t.false(isHeld(folder));
  const lock = RunLock.take(folder);
  t.true(isHeld(folder));
  t.true(lock.isOurs);
  lock.release();
  t.false(isHeld(folder));
});

test('a lock whose file number now means another file does not hold', (t) => {
  const folder = temporaryFolder();
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'lock');
  const lock = RunLock.take(folder);
  const holder = JSON.parse(readFileSync(path, 'utf8')) as { file: number };
  lock.release();
  t.throws(() => fstatSync(holder.file), { code: 'EBADF' });
  const other = openSync('package.json', 'r');
  writeFileSync(path, JSON.stringify({ ...holder, file: other }));
  t.false(isHeld(folder));
  RunLock.take(folder).release();
  closeSync(other);
});
