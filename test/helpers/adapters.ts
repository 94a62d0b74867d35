import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadModel } from '#dist/load-model.js';
import type { Model } from '#dist/model.js';
import type { Tensor } from '#dist/tensor.js';

/** A reference recorded by scripts/golden/adapters.py. */
export interface Reference {
  readonly base: string;
  readonly effect: number;
  readonly active?: string[];
  readonly sequences: readonly { readonly ids: number[]; readonly logits: number[][] }[];
}

export const golden = 'test/golden';
export const readReference = (file: string): Reference => JSON.parse(readFileSync(file, 'utf8')) as Reference;

/** A tiny model of the goldens. */
export const loadTiny = (base = 'models/llama-gqa-tied'): Promise<Model> => loadModel(join(golden, base));

export const temporaryFolder = (): string => mkdtempSync(join(tmpdir(), 'lorikeet-'));

export async function valuesOf(tensor: Tensor): Promise<Float32Array> {
  const values = (await tensor.data()) as Float32Array;
  tensor.dispose();
  return values;
}

interface HasLogits {
  logits(ids: readonly (readonly number[])[]): Tensor;
}

export const logitsOf = (model: HasLogits, ids: readonly number[]): Promise<Float32Array> => valuesOf(model.logits([ids]));

/** The largest difference, relative to the range of the expected values. */
export function relativeError(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  let [low, high, worst] = [Infinity, -Infinity, 0];
  for (let i = 0; i < expected.length; i++) {
    const value = expected[i] ?? 0;
    low = Math.min(low, value);
    high = Math.max(high, value);
    const difference = Math.abs((got[i] ?? Number.NaN) - value);
    worst = Number.isNaN(difference) ? Infinity : Math.max(worst, difference);
  }
  return got.length === expected.length ? worst / (high - low) : Infinity;
}

/** The worst relative error of a model's logits over the sequences of a reference. */
export async function referenceError(model: HasLogits, { sequences }: Reference): Promise<number> {
  let worst = 0;
  for (const { ids, logits } of sequences) worst = Math.max(worst, relativeError(await logitsOf(model, ids), logits.flat()));
  return worst;
}

/** True when two arrays have the same bits. */
export function sameBits(a: Float32Array | Float64Array, b: Float32Array | Float64Array): boolean {
  return Buffer.compare(Buffer.from(a.buffer, a.byteOffset, a.byteLength), Buffer.from(b.buffer, b.byteOffset, b.byteLength)) === 0;
}
