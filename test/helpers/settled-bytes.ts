import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { memory, synchronize } from 'lorikeet';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Bytes of native memory once queued work is done and tensors that earlier tests dropped are collected, so that none of them is freed while bytes are compared. */
export async function settledBytes(): Promise<number> {
  await synchronize();
  collect();
  // Finalizers run when the event loop turns.
  await setImmediate();
  await synchronize();
  return memory().bytes;
}
