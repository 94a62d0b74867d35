import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { FormatError } from '../errors.js';
import { loadSafetensors, saveSafetensors, tensorBytes } from '../io/safetensors.js';
import { clone } from '../ops/elementwise.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';

/** Part of every name: rises when the decompositions give other values for the same input. */
const kCacheVersion = 1;
/** Bytes hashed before others on the thread get a turn. */
const kHashedBytes = 4 << 20;

/** What a decomposition is found again by, beside the matrix. */
export type CacheKey = Readonly<Record<string, string | number | boolean>>;

/** Factors on disk, one safetensors file for each matrix and key, named by a SHA-256 of both. Files appear complete or not at all. */
export class DecompositionCache {
  readonly #folder: string;
  readonly #key: string;

  constructor(folder: string, key: CacheKey) {
    this.#folder = folder;
    this.#key = JSON.stringify(Object.entries(key).sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  /** The file for a matrix: its name depends on dtype, shape, elements, key and version. */
  async fileFor(matrix: Tensor): Promise<string> {
    const hash = createHash('sha256');
    hash.update(`lorikeet decomposition ${kCacheVersion}\n${this.#key}\n${matrix.dtype} ${matrix.shape.join('x')}\n`);
    const bytes = await tensorBytes(matrix);
    for (let start = 0; start < bytes.length; start += kHashedBytes) {
      hash.update(bytes.subarray(start, start + kHashedBytes));
      await setImmediate();
    }
    return join(this.#folder, `${hash.digest('hex')}.safetensors`);
  }

  /** The factors in a file, or undefined when it is missing or damaged. */
  async read(file: string): Promise<Record<string, Tensor> | undefined> {
    try {
      return await scope(async () => {
        const stored = await loadSafetensors(file);
        return Object.fromEntries([...stored].map(([name, value]) => [name, clone(value)]));
      });
    } catch (error) {
      if (error instanceof FormatError || isMissing(error)) return undefined;
      throw error;
    }
  }

  async write(file: string, factors: Readonly<Record<string, Tensor>>): Promise<void> {
    await saveSafetensors(file, factors, { format: 'lorikeet-decomposition', version: String(kCacheVersion), key: this.#key });
  }
}

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';
