import { concat } from '../ops/join.js';
import type { LowRankFactors, RowSegment } from '../ops/lowrank.js';
import { narrow } from '../ops/shape.js';
import { isRecording } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { AdapterModule } from './adapter.js';

/** Entries `start` to `start + length` of the leading axis, with the same adapters. */
export interface Run {
  readonly start: number;
  readonly length: number;
  readonly adapters: readonly AdapterModule[];
}

const sameModules = (a: readonly AdapterModule[], b: readonly AdapterModule[]): boolean =>
  a.length === b.length && a.every((module, i) => module === b[i]);

/** How the rows of a layer are computed: `together` takes rows that `isPlain`, each with its own modules; `alone` takes rows with one list of modules, from entry `start`. */
export interface RowWork {
  readonly isPlain: (modules: readonly AdapterModule[]) => boolean;
  readonly together: (x: Tensor, runs: readonly Run[]) => Tensor;
  readonly alone: (x: Tensor, modules: readonly AdapterModule[], start: number) => Tensor;
}

/**
 * One layer on a batch whose rows have different adapters. Which way a row goes depends on its own adapters alone, and so do its bits. While a tape is
 * recorded, rows that are not plain go one by one: the gradient of an adapter is then summed in the same steps whatever lies between its rows.
 */
export function routeRows(x: Tensor, rows: readonly Run[], work: RowWork): Tensor {
  const plain = rows.filter((row) => work.isPlain(row.adapters));
  if (plain.length === rows.length) return work.together(x, joined(rows));
  const parts = new Map<number, Tensor>();
  if (plain.length > 0) {
    const y = work.together(
      concat(
        plain.map((row) => narrow(x, 0, row.start, row.length)),
        0,
      ),
      joined(packed(plain)),
    );
    for (const [i, row] of packed(plain).entries()) parts.set(plain[i]?.start ?? 0, narrow(y, 0, row.start, row.length));
  }
  const special = rows.filter((row) => !work.isPlain(row.adapters));
  for (const run of isRecording() ? special : joined(special)) {
    parts.set(run.start, work.alone(run.length === x.shape[0] ? x : narrow(x, 0, run.start, run.length), run.adapters, run.start));
  }
  const ordered = [...parts].sort(([a], [b]) => a - b).map(([, part]) => part);
  return ordered.length === 1 && ordered[0] !== undefined ? ordered[0] : concat(ordered, 0);
}

/** The same runs laid side by side. */
function packed(runs: readonly Run[]): Run[] {
  let start = 0;
  return runs.map((run) => {
    const moved = { ...run, start };
    start += run.length;
    return moved;
  });
}

/** Neighbours in the batch with the same modules taken together. */
export function joined(runs: readonly Run[]): Run[] {
  const result: Run[] = [];
  for (const run of runs) {
    const last = result.at(-1);
    if (last !== undefined && last.start + last.length === run.start && sameModules(last.adapters, run.adapters)) {
      result[result.length - 1] = { ...last, length: last.length + run.length };
    } else result.push(run);
  }
  return result;
}

/** The factors and segments of a fused product in which each run has the branches of its own modules; `rowsPerEntry` rows of x for each leading entry. */
export function segmentsOf(
  runs: readonly Run[],
  rowsPerEntry: number,
  training: boolean,
): { adapters: LowRankFactors[]; segments: RowSegment[] } {
  const modules = [...new Set(runs.flatMap((run) => run.adapters))];
  return {
    adapters: modules.flatMap((module) => module.lowRank?.(training) ?? []),
    segments: runs.map((run) => ({
      start: run.start * rowsPerEntry,
      end: (run.start + run.length) * rowsPerEntry,
      adapters: run.adapters.map((module) => modules.indexOf(module)),
    })),
  };
}
