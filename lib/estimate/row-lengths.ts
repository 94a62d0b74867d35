import { loadDataset } from '../data/dataset.js';
import { encodeExample } from '../data/encode.js';
import { type DataSources, readExamples, sourceList } from '../data/source.js';
import type { Tokenizer } from '../io/tokenizer.js';

/** Tokens of rows: the longest, and what a batch is padded to and holds on average. */
export interface RowLengths {
  readonly longest: number;
  /** Mean over batches of their longest row. */
  readonly padded: number;
  readonly mean: number;
}

/** Rows of a source that are looked at. */
const kSampled = 512;

/** The lengths of the first rows of each source, cut to `sequence`. Throws as `loadDataset` does. */
export async function rowLengths(sources: DataSources, tokenizer: Tokenizer, batch: number, sequence: number): Promise<RowLengths> {
  const lengths: number[] = [];
  for (const source of sourceList(sources)) {
    const before = lengths.length;
    for await (const example of readExamples(source, { badRows: 'skip' })) {
      const { ids } = await encodeExample(example, tokenizer, sequence);
      if (ids.length > 1) lengths.push(ids.length);
      if (lengths.length - before === kSampled) break;
    }
    // A source without rows is refused with the words of the trainer.
    if (lengths.length === before) await loadDataset(source, tokenizer, { sequence });
  }
  const maxima: number[] = [];
  for (let start = 0; start + batch <= lengths.length || start === 0; start += batch)
    maxima.push(Math.max(...lengths.slice(start, start + batch)));
  return { longest: Math.max(...lengths), padded: mean(maxima), mean: mean(lengths) };
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
