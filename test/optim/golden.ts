import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Nested lists of numbers; those that JSON lacks are strings. */
export type Nested = number | string | readonly Nested[];

export interface GoldenRun {
  readonly kind: 'adamw' | 'sgd';
  readonly groups: readonly (Record<string, number | boolean | readonly number[]> & {
    readonly learningRate: number;
    readonly epsilon?: number;
  })[];
  /** Parameters after each step. */
  readonly parameters: readonly (readonly Nested[])[];
}

export interface GoldenClip {
  readonly limit: number;
  readonly gradients: readonly Nested[];
  readonly norm: number;
  readonly clipped: readonly Nested[];
}

interface Golden {
  readonly shapes: readonly (readonly number[])[];
  readonly initial: readonly Nested[];
  readonly gradients: readonly (readonly Nested[])[];
  readonly clip: readonly GoldenClip[];
}

/** What PyTorch computed, see scripts/golden/optimizers.py. */
const path = fileURLToPath(new URL('../../../test/golden/optimizers.json', import.meta.url));
export const golden = JSON.parse(readFileSync(path, 'utf8')) as Golden & Record<string, unknown>;

export const runs: readonly [string, GoldenRun][] = Object.entries(golden).filter((entry): entry is [string, GoldenRun] => {
  const value = entry[1];
  return typeof value === 'object' && value !== null && 'kind' in value;
});

export const flat = (x: Nested): number[] => (typeof x === 'object' ? x.flatMap(flat) : [Number(x)]);
