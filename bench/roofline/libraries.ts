import { execFileSync } from 'node:child_process';
import { threads } from 'lorikeet';
import type { Report } from '../harness.js';
import { buildProgram } from './roofline.js';

/** The median time of a matrix product with a library of others. */
export interface LibraryRow {
  readonly library: 'OpenBLAS' | 'oneDNN';
  /** rows x outputs x inputs. */
  readonly shape: string;
  readonly dtype: string;
  readonly ms: number;
}

interface Answer {
  readonly rows: readonly LibraryRow[];
  readonly missing: readonly { readonly library: string; readonly reason: string }[];
}

/** Measures the libraries that are installed, in a process of their own; says in `report` which are missing and why. */
export function libraryRows(shape: string, dtype: string, report?: Report): readonly LibraryRow[] {
  if (dtype !== 'f32' && dtype !== 'bf16') return [];
  const program = buildProgram('bench_libraries');
  const env = { ...process.env, OMP_NUM_THREADS: String(threads()) };
  const text = execFileSync(program, [String(threads()), shape, dtype], { encoding: 'utf8', env });
  const { rows, missing } = JSON.parse(text) as Answer;
  for (const { library, reason } of missing) report?.line(`${library} was not measured: ${reason}`);
  return rows;
}
