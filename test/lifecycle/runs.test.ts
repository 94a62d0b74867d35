import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { memory } from 'lorikeet';
import { settledTensors } from '../helpers/settled-bytes.js';
import { type TinyRun, tinyRun } from '../helpers/tiny-run.js';

// Runs at the same time, in one thread or in several, give the bits that each gives alone.

const runs: readonly TinyRun[] = [
  { dora: false, dtype: 'f32', seed: 1 },
  { dora: true, dtype: 'bf16', seed: 2 },
];

async function inWorker(run: TinyRun): Promise<string> {
  const worker = new Worker(new URL('../helpers/tiny-run.js', import.meta.url), { workerData: run });
  const ended = once(worker, 'exit');
  const [digest] = (await once(worker, 'message')) as [string];
  await ended;
  return digest;
}

test.serial('runs at the same time in one thread, and in worker threads, equal runs alone', async (t) => {
  const alone: string[] = [];
  for (const run of runs) alone.push(await tinyRun(run));
  t.is(new Set(alone).size, runs.length);
  const tensors = await settledTensors();
  t.deepEqual(await Promise.all(runs.map(tinyRun)), alone);
  t.is(memory().tensors, tensors);
  const mixed = await Promise.all([...runs.map(inWorker), ...runs.map(tinyRun)]);
  t.deepEqual(mixed, [...alone, ...alone]);
});
