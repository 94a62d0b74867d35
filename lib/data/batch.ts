import type { TaskId } from '../nn/context.js';
import type { Sequence } from './encode.js';
import { tasksOf } from './row-task.js';

/** The target of a position that does not count in the loss. */
export const kIgnored = -100;

/**
 * Sequences as a model takes them: row b of `ids` holds the tokens that it reads (all but the last of each document), row b of `targets` the token after each, or
 * `kIgnored` where that is not learnt. Rows differ in length; the model pads them on the right, and padding has no target.
 */
export interface Batch {
  readonly ids: readonly (readonly number[])[];
  readonly targets: readonly (readonly number[])[];
  /** Where sequences are packed: the number of each token's document in its row. */
  readonly documents?: readonly (readonly number[])[];
  /** The task of each row, where the sources say. */
  readonly tasks?: readonly TaskId[];
  /** Tokens of the sequences. */
  readonly tokens: number;
  /** Targets that count in the loss. */
  readonly targetCount: number;
}

/** The batch of sequences of at least two tokens each. Throws `FormatError` where only some have a task. */
export function collate(sequences: readonly Sequence[]): Batch {
  const rows = sequences.map(rowOf);
  const tasks = tasksOf(sequences);
  return {
    ids: rows.map(({ ids }) => ids),
    targets: rows.map(({ targets }) => targets),
    ...(sequences.some(({ starts }) => starts !== undefined) ? { documents: rows.map(({ documents }) => documents) } : {}),
    ...(tasks === undefined ? {} : { tasks }),
    tokens: sequences.reduce((sum, { ids }) => sum + ids.length, 0),
    targetCount: sequences.reduce((sum, sequence) => sum + targetCount(sequence), 0),
  };
}

/** One row of a batch: what is read of each document, and what follows. */
function rowOf({ ids, learnt, starts = [0] }: Sequence): { ids: number[]; targets: number[]; documents: number[] } {
  const row = { ids: [] as number[], targets: [] as number[], documents: [] as number[] };
  for (const [document, start] of starts.entries()) {
    const end = starts[document + 1] ?? ids.length;
    for (let t = start; t < end - 1; t++) {
      row.ids.push(ids[t] as number);
      row.targets.push(learnt[t + 1] === 1 ? (ids[t + 1] as number) : kIgnored);
      row.documents.push(document);
    }
  }
  return row;
}

/** What a model's `loss` takes of a batch. */
export function inputOf({ ids, targets, documents, tasks }: Batch): Pick<Batch, 'ids' | 'targets' | 'documents' | 'tasks'> {
  return { ids, targets, ...(documents === undefined ? {} : { documents }), ...(tasks === undefined ? {} : { tasks }) };
}

/** How many tokens of a sequence are learnt. */
export function targetCount(sequence: Sequence): number {
  let count = 0;
  for (const flag of sequence.learnt) count += flag;
  return count;
}
