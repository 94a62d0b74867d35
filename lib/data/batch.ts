import type { Sequence } from './encode.js';

/** The target of a position that does not count in the loss. */
export const kIgnored = -100;

/**
 * Sequences as a model takes them: row b of `ids` holds the tokens that it reads (all but the last), row b of `targets` the token after each, or `kIgnored`
 * where that is not learnt. Rows differ in length; the model pads them on the right, and padding has no target.
 */
export interface Batch {
  readonly ids: readonly (readonly number[])[];
  readonly targets: readonly (readonly number[])[];
  /** Tokens of the sequences. */
  readonly tokens: number;
  /** Targets that count in the loss. */
  readonly targetCount: number;
}

/** The batch of sequences of at least two tokens each. */
export function collate(sequences: readonly Sequence[]): Batch {
  const ids: number[][] = [];
  const targets: number[][] = [];
  let tokens = 0;
  let count = 0;
  for (const sequence of sequences) {
    ids.push(Array.from(sequence.ids.subarray(0, -1)));
    targets.push(Array.from(sequence.ids.subarray(1), (id, t) => (sequence.learnt[t + 1] === 1 ? id : kIgnored)));
    tokens += sequence.ids.length;
    count += targetCount(sequence);
  }
  return { ids, targets, tokens, targetCount: count };
}

/** How many tokens of a sequence are learnt. */
export function targetCount(sequence: Sequence): number {
  let count = 0;
  for (const flag of sequence.learnt) count += flag;
  return count;
}
