import { op } from './native.js';
import { synchronize } from './scope.js';
import type { DType } from './tensor.js';

const startProfile = op('startProfile');
const stopProfile = op('stopProfile');

/** Dtype and shape of a tensor that an op read or wrote. */
export interface ProfiledTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** One native op as it ran. */
export interface ProfiledOp {
  readonly name: string;
  /** Queued by a `backward()`, recomputation included. */
  readonly backward: boolean;
  /** Milliseconds from the start of the profile to the start of the op. */
  readonly start: number;
  /** Milliseconds that the op ran. */
  readonly ms: number;
  /** What the op read and wrote, by position; undefined where an optional tensor was not given. */
  readonly inputs: readonly (ProfiledTensor | undefined)[];
  readonly outputs: readonly (ProfiledTensor | undefined)[];
}

export interface Profile<T> {
  readonly result: T;
  /** In the order in which they ran. */
  readonly ops: readonly ProfiledOp[];
  /** Milliseconds from the call until all work of `fn` had run. What `ops` do not cover, the engine waited for JavaScript or kept its own books. */
  readonly ms: number;
}

/**
 * Runs `fn` and notes every native op that runs meanwhile, with its time. Keeps no tensors. Ops that other code queues while `fn` awaits are noted too. Nothing is
 * noted, and nothing is slower, when no profile runs. Throws an argument error inside another profile.
 */
export async function profile<T>(fn: () => T | Promise<T>): Promise<Profile<T>> {
  await synchronize();
  const start = performance.now();
  startProfile();
  try {
    const result = await fn();
    await synchronize();
    const ms = performance.now() - start;
    return { result, ops: stopProfile(), ms };
  } catch (error) {
    stopProfile();
    throw error;
  }
}
