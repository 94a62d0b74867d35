import type { Sequence } from './encode.js';

/** The target of a position that does not count in the loss. */
export const kIgnored = -100;

/**
 * B sequences side by side, padded on the right. `ids` and `targets` are [B, T] row by row, where T is the longest sequence less one:
 * position t holds token t and its target, token t + 1, or `kIgnored` where that token is not learnt or is padding.
 */
export interface Batch {
  readonly ids: BigInt64Array;
  readonly targets: BigInt64Array;
  readonly shape: readonly [batch: number, time: number];
  /** Tokens of each row that the model reads; positions beyond are padding. */
  readonly lengths: readonly number[];
  /** Targets that count in the loss. */
  readonly targetCount: number;
}

/** Lays sequences side by side; padding repeats token 0 and is never learnt nor, as attention is causal, seen. */
export function collate(sequences: readonly Sequence[]): Batch {
  const time = Math.max(1, ...sequences.map(({ ids }) => ids.length - 1));
  const ids = new BigInt64Array(sequences.length * time);
  const targets = new BigInt64Array(sequences.length * time).fill(BigInt(kIgnored));
  let targetCount = 0;
  for (const [row, sequence] of sequences.entries()) {
    const length = Math.min(time, sequence.ids.length);
    for (let t = 0; t < length; t++) {
      ids[row * time + t] = BigInt(sequence.ids[t] as number);
      if (sequence.learnt[t + 1] !== 1) continue;
      targets[row * time + t] = BigInt(sequence.ids[t + 1] as number);
      targetCount++;
    }
  }
  const lengths = sequences.map((sequence) => Math.max(1, Math.min(time, sequence.ids.length)));
  return { ids, targets, shape: [sequences.length, time], lengths, targetCount };
}

/** How many tokens of a sequence are learnt. */
export function targetCount(sequence: Sequence): number {
  let count = 0;
  for (const flag of sequence.learnt) count += flag;
  return count;
}
