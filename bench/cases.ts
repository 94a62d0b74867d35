import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type DType, scope, setThreads, synchronize, type Tensor, threads } from 'lorikeet';
import { normal } from 'lorikeet/ops';
import { gigabytes, gigaflops, type Report, rounded, type Timing } from './harness.js';
import { type Calibration, calibrate, peakFlops, percentOf, rooflineOf } from './roofline/roofline.js';

export interface Prepared {
  readonly run: () => unknown;
  readonly baseline: () => unknown;
  /** What scopes leave alone: packed weights, optimizers. */
  readonly owned?: readonly { dispose(): void }[];
}

/** One measurement of a suite. */
export interface Case {
  /** Row title: what runs on which shape. */
  readonly name: string;
  readonly dtype: DType;
  /** What bounds it: floating-point operations against the arithmetic peak, or bytes against memory bandwidth. */
  readonly work: { readonly flops: number } | { readonly bytes: number };
  /** Makes the data and returns the work: queued in `run`, and in `baseline` done another way. Runs inside a scope. */
  prepare(): Prepared;
  /** What `baseline` is. */
  readonly baseline: string;
  /** The same work for peers/kernels.py. */
  readonly peer?: Readonly<Record<string, string | number | boolean>>;
}

const kRounds = 5;
const kMilliseconds = 400;

/** Times variants in alternation, so that drift of the machine meets them alike. Each run is a scope of its own and ends with its result there. */
export async function interleaved(runs: readonly (() => unknown)[], rounds = kRounds, time = kMilliseconds): Promise<Timing[]> {
  const times: number[][] = runs.map(() => []);
  const begin = performance.now();
  for (let round = -1; round < rounds || performance.now() - begin < time * runs.length; round++) {
    for (const [i, run] of runs.entries()) {
      const start = performance.now();
      await scope(async () => {
        await run();
        await synchronize();
      });
      if (round >= 0) times[i]?.push(performance.now() - start);
    }
  }
  return times.map((list) => {
    const sorted = list.sort((a, b) => a - b);
    return { min: sorted[0] ?? Number.NaN, p50: sorted[sorted.length >> 1] ?? Number.NaN, runs: sorted.length };
  });
}

/** The speed of a case in its unit, and what the roofline allows in the same unit. */
function speeds(work: Case['work'], dtype: DType, ms: number, figures: Calibration) {
  if ('flops' in work) return { speed: gigaflops(work.flops, ms), unit: 'GFLOP/s', peak: peakFlops(figures, dtype) };
  return { speed: gigabytes(work.bytes, ms), unit: 'GB/s', peak: rooflineOf(figures).gigabytesPerSecond };
}

/** Median and fastest; null where the peer has no counterpart. */
type PeerTime = readonly [p50: number, min: number] | null;

function peerTimes(python: string, cases: readonly Case[]): readonly PeerTime[] {
  const input = JSON.stringify(cases.map(({ peer, dtype }) => (peer ? { ...peer, dtype } : {})));
  const args = [join('bench', 'peers', 'kernels.py'), '--threads', String(threads())];
  const text = execFileSync(python, args, { encoding: 'utf8', input });
  return JSON.parse(text.trim().split('\n').at(-1) ?? '[]') as PeerTime[];
}

/** Measures the cases of a suite and prints one row each. Options: --threads N, --peer PYTHON, --only TEXT (in the name). */
export async function runCases(args: readonly string[], report: Report, cases: readonly Case[]): Promise<object> {
  const { values } = parseArgs({
    args: [...args],
    options: { threads: { type: 'string' }, peer: { type: 'string' }, only: { type: 'string', default: '' } },
  });
  if (values.threads !== undefined) setThreads(Number(values.threads));
  const figures = calibrate(report);
  const chosen = cases.filter(({ name, dtype }) => `${name} ${dtype}`.includes(values.only));
  const peers = values.peer === undefined ? [] : peerTimes(values.peer, chosen);
  const rows: Record<string, string | number>[] = [];
  for (const [i, each] of chosen.entries()) {
    const [own, other] = await scope(async () => {
      const { run, baseline, owned = [] } = each.prepare();
      await synchronize();
      const timings = await interleaved([run, baseline]);
      for (const one of owned) one.dispose();
      return timings;
    });
    if (own === undefined || other === undefined) throw new Error('bench: nothing was measured');
    const { speed, unit, peak } = speeds(each.work, each.dtype, own.p50, figures);
    const peer = peers[i];
    report.line(
      `${i + 1} of ${chosen.length}: ${each.name} ${each.dtype}, ${rounded(own.p50, 3)} ms, best ${rounded(own.min, 3)} ms, ${percentOf(speeds(each.work, each.dtype, own.min, figures).speed, peak)} % of the roofline`,
    );
    rows.push({
      case: each.name,
      dtype: each.dtype,
      ms: rounded(own.p50, 3),
      ms_min: rounded(own.min, 3),
      speed,
      unit,
      '% of roofline': percentOf(speed, peak),
      '% at best': percentOf(speeds(each.work, each.dtype, own.min, figures).speed, peak),
      baseline: each.baseline,
      baseline_ms: rounded(other.p50, 3),
      ratio: rounded(other.p50 / own.p50),
      ratio_min: rounded(other.min / own.min),
      ...(peer && { torch_ms: rounded(peer[0], 3), ratio_torch: rounded(peer[0] / own.p50), ratio_torch_min: rounded(peer[1] / own.min) }),
    });
  }
  report.line('ratio: time of the other / ours, medians; ratio_min: fastest runs. Above 1 ours is faster');
  report.table(rows);
  return { roofline: figures, rows };
}

let seeds = 0;

/** Normal random numbers, other ones at every call. */
export const random = (shape: readonly number[], dtype: DType, std = 1): Tensor => normal(shape, { dtype, std, seed: ++seeds });

/** The same, wanting a gradient. */
export const leaf = (shape: readonly number[], dtype: DType, std = 1): Tensor => random(shape, dtype, std).setRequiresGrad(true);

/** Forward and backward from an output gradient (none for a single number); the gradients of `leaves` are dropped again. */
export function forwardBackward(forward: () => Tensor, gradient: Tensor | undefined, leaves: readonly Tensor[]): void {
  forward().backward(gradient);
  for (const each of leaves) each.clearGrad();
}
