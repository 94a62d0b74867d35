// Engine switches for tests: instruction level and thread count. Both are process-wide, so what runs under them must be synchronous.

import * as internals from '#dist/native.js';

/** Internal names are stripped from the declarations; what is used here is spelt out. */
interface Internals {
  op<Result, Arguments extends unknown[]>(name: string): (...values: Arguments) => Result;
  readonly native: { readonly signatures: Readonly<Record<string, string>>; readonly unions: Readonly<Record<string, readonly string[]>> };
}
const { op, native } = internals as unknown as Internals;

const setIsaLevel = op<void, [string]>('setIsaLevel');
const isaLevel = op<string, []>('isaLevel');
const machineIsaLevel = op<string, []>('machineIsaLevel');
const threads = op<number, []>('threads');
const setThreads = op<void, [number]>('setThreads');

/** Signatures of all native ops by name, and the members of their string unions. */
export const { signatures, unions } = native;

export const allLevels = ['scalar', 'avx2', 'avx512', 'avx512-bf16', 'amx-bf16'] as const;

/** The levels that this machine can run, lowest first. */
export const machineLevels: readonly string[] = allLevels.slice(0, allLevels.indexOf(machineIsaLevel() as (typeof allLevels)[number]) + 1);

/** The levels that did not run here: printed, so that a green run does not claim them. */
export const missingLevels: readonly string[] = allLevels.filter((level) => !machineLevels.includes(level));

export function atLevel<T>(level: string, fn: () => T): T {
  const before = isaLevel();
  setIsaLevel(level);
  try {
    return fn();
  } finally {
    setIsaLevel(before);
  }
}

export function withThreads<T>(count: number, fn: () => T): T {
  const before = threads();
  setThreads(count);
  try {
    return fn();
  } finally {
    setThreads(before);
  }
}
