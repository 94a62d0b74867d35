import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { manualSeed, memory, randomState } from 'lorikeet';
import { settledTensors } from '../helpers/settled-bytes.js';
import { trainedBits } from '../helpers/trained-bits.js';

let alone: readonly string[] = [];
test.before(async () => {
  alone = [await trainedBits(1), await trainedBits(2)];
});

test.serial('one seed gives one result; another seed another, in adapter, order and dropout', async (t) => {
  manualSeed(123);
  t.is(await trainedBits(1), alone[0] as string);
  t.is(randomState().draws, 0, 'the draws of the environment are not used');
  t.not(alone[0], alone[1]);
});

test.serial('two runs at once in one thread have the bits of runs alone', async (t) => {
  const before = await settledTensors();
  t.deepEqual(await Promise.all([trainedBits(1), trainedBits(2)]), [...alone]);
  t.is(memory().tensors, before);
});

test.serial('runs in two worker threads, and in this one, have the bits of runs alone', async (t) => {
  const start = (seeds: readonly number[]): Promise<string[]> => {
    const worker = new Worker(new URL('../helpers/train-worker.js', import.meta.url), { workerData: seeds });
    return Promise.race([
      once(worker, 'message').then(([bits]) => bits as string[]),
      once(worker, 'error').then(([error]) => Promise.reject(error)),
    ]);
  };
  const [one, two, here] = await Promise.all([start([1, 2]), start([2, 1]), trainedBits(2)]);
  t.deepEqual(one, [...alone]);
  t.deepEqual(two, [...alone].reverse());
  t.is(here, alone[1] as string);
});

test.serial('checkpointing has the same bits', async (t) => {
  t.is(await trainedBits(1, { checkpointing: true }), alone[0] as string);
});
