import { rounded } from '../harness.js';
import { benchJson, type StepNumbers } from './peer.js';

export interface Scaling {
  readonly runs: readonly { readonly threads: number; readonly ms: number; readonly ms_min: number }[];
  /** Time with the fewest threads / time with the most, of the best steps. */
  readonly ratio: number;
}

/** The same step with several numbers of threads, each in a process of its own. `own` are the options of the suite without `--threads`. */
export function measureScaling(
  own: readonly string[],
  threads: readonly number[],
  onRun: (threads: number, numbers: StepNumbers) => void,
): Scaling {
  const runs = threads.map((count) => {
    const numbers = benchJson(['step', ...own, '--threads', `${count}`]);
    onRun(count, numbers);
    return { threads: count, ms: numbers.ms, ms_min: numbers.ms_min };
  });
  const ordered = [...runs].sort((a, b) => a.threads - b.threads);
  return { runs, ratio: rounded((ordered[0]?.ms_min ?? Number.NaN) / (ordered.at(-1)?.ms_min ?? Number.NaN), 3) };
}
