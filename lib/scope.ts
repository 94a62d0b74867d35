import { AsyncLocalStorage } from 'node:async_hooks';
import { native, op } from './native.js';
import type { MemoryUse } from './native-types.js';
import type { Tensor } from './tensor.js';

/** Something that owns native memory. */
interface Owner {
  dispose(): void;
  /** Called when no scope releases it any more: the garbage collector may have to. */
  leaveScopes?(): void;
}

/** The tensors created in one scope, kept until it ends. */
class Scope {
  readonly owned = new Set<Owner>();
}

const current = new AsyncLocalStorage<Scope | undefined>();

/** @internal Puts a new tensor into the running scope, if there is one. */
export function track(owner: Owner): void {
  moveTo(current.getStore(), owner);
}

function moveTo(scope: Scope | undefined, owner: Owner): void {
  if (scope === undefined) owner.leaveScopes?.();
  else scope.owned.add(owner);
}

/** Takes an owner out of the running scope, so that it lives until it is disposed explicitly. Parameters and optimizer state are kept this way. */
export function keep<T extends Owner>(owner: T): T {
  if (current.getStore()?.owned.delete(owner) === true) owner.leaveScopes?.();
  return owner;
}

/** Runs `fn` outside any scope: what it creates lives until it is disposed explicitly. */
export function unscoped<T>(fn: () => T): T {
  return current.run(undefined, fn);
}

/**
 * Runs `fn` and disposes every tensor created inside, except those found in what it returns (a tensor, or arrays, maps and plain objects of them): these pass to
 * the enclosing scope. `fn` may be async; interleaved scopes keep apart.
 */
export function scope<T>(fn: () => T): T {
  const parent = current.getStore();
  const own = new Scope();
  const end = (result: unknown): void => {
    for (const owner of ownersIn(result)) {
      if (own.owned.delete(owner)) moveTo(parent, owner);
    }
    disposeAll(own);
  };
  let result: T;
  try {
    result = current.run(own, fn);
  } catch (error) {
    disposeAll(own);
    throw error;
  }
  if (result instanceof Promise) {
    return result.then(
      (value) => {
        end(value);
        return value;
      },
      (error: unknown) => {
        disposeAll(own);
        throw error;
      },
    ) as T;
  }
  end(result);
  return result;
}

function disposeAll(scope: Scope): void {
  for (const owner of scope.owned) owner.dispose();
  scope.owned.clear();
}

/** The owners reachable from a returned value through arrays, maps, sets and plain objects. */
function ownersIn(value: unknown, found = new Set<Owner>(), seen = new Set<unknown>()): Set<Owner> {
  if (typeof value !== 'object' || value === null || seen.has(value)) return found;
  seen.add(value);
  if (typeof (value as Partial<Owner>).dispose === 'function') {
    found.add(value as Owner);
  } else if (Array.isArray(value) || value instanceof Set) {
    for (const item of value) ownersIn(item, found, seen);
  } else if (value instanceof Map) {
    for (const item of value.values()) ownersIn(item, found, seen);
  } else if ([Object.prototype, null].includes(Object.getPrototypeOf(value))) {
    for (const item of Object.values(value)) ownersIn(item, found, seen);
  }
  return found;
}

const setRecording = op('setRecording');

/** @internal Whether ops are recorded for backward at the moment. */
export function isRecording(): boolean {
  const on = setRecording(false);
  setRecording(on);
  return on;
}

/** Runs `fn` (synchronous) without recording ops for backward. */
export function noGrad<T>(fn: () => T): T {
  const before = setRecording(false);
  try {
    return fn();
  } finally {
    setRecording(before);
  }
}

/** @internal Runs `fn` (synchronous) with recording on, inside a backward. */
export function withGrad<T>(fn: () => T): T {
  const before = setRecording(true);
  try {
    return fn();
  } finally {
    setRecording(before);
  }
}

/** Native memory in use, and how many tensors of this environment were not disposed. */
export function memory(): MemoryUse {
  return native.memory();
}

/** Sets the highest number of bytes that may be in use at once; work beyond it fails with an out-of-memory error. 0 removes the limit. */
export const setMemoryLimit: (bytes: number) => void = op('setMemoryLimit');

/** Makes `memory().peakBytes` start again from what is in use now. */
export const resetPeakMemory: () => void = op('resetPeakMemory');

/** Gives memory that is free when the work queued so far is done back to the operating system. */
export const trimMemory: () => void = op('trimMemory');

/** Resolves when all work queued so far has run. */
export function synchronize(): Promise<void> {
  return native.synchronize();
}

/** Disposes several tensors at once. */
export function disposeTensors(tensors: Iterable<Tensor>): void {
  for (const tensor of tensors) tensor.dispose();
}
