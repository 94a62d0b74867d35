import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { memory, synchronize } from 'lorikeet';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Native memory once queued work is done and tensors that earlier tests dropped are collected, so that none of them is freed while numbers are compared. */
export async function settledMemory(): Promise<ReturnType<typeof memory>> {
  await synchronize();
  collect();
  // Finalizers run when the event loop turns.
  await setImmediate();
  await synchronize();
  return memory();
}

/** Its bytes. */
export const settledBytes = async (): Promise<number> => (await settledMemory()).bytes;

/** How many tensors are kept, for a comparison: those that earlier tests dropped are not among them. */
export const settledTensors = async (): Promise<number> => (await settledMemory()).tensors;
