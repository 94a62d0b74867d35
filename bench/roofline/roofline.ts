import { execFileSync } from 'node:child_process';
import { threads } from 'lorikeet';
import type { Report } from '../harness.js';
import { rounded } from '../harness.js';

/** One figure with one thread, and with all of them. */
export interface Peak {
  readonly one: number;
  readonly all: number;
}

/** What this machine reaches at best: GFLOP/s of a register-only loop, and GB/s of reading L2 and memory, and of a = b + s c in memory. */
export interface Calibration {
  readonly level: string;
  readonly threads: number;
  readonly f32: Peak;
  readonly bf16: Peak;
  readonly l2: Peak;
  readonly read: Peak;
  readonly triad: Peak;
}

const keys = ['f32', 'bf16', 'l2', 'read', 'triad'] as const;

/** Parses what bench_native prints. Throws when a figure is missing or not positive. */
export function parseCalibration(text: string): Calibration {
  const value = JSON.parse(text) as Partial<Calibration>;
  for (const key of keys) {
    const peak = value[key];
    if (!peak || !(peak.one > 0) || !(peak.all > 0)) throw new Error(`roofline: no figure "${key}"; got ${JSON.stringify(peak)}`);
  }
  return value as Calibration;
}

/** Builds a program that only benches use, quick when nothing changed; returns its path. */
export function buildProgram(target: string): string {
  execFileSync('cmake', ['--build', 'build', '--target', target], { stdio: ['ignore', 'ignore', 'inherit'] });
  return `build/${target}`;
}

let known: Calibration | undefined;

/** Measures the machine, once a process, with the threads in force, and prints the figures. */
export function calibrate(report: Report): Calibration {
  if (known?.threads === threads()) return known;
  const text = execFileSync(buildProgram('bench_native'), [], {
    encoding: 'utf8',
    env: { ...process.env, LORIKEET_THREADS: String(threads()) },
  });
  known = parseCalibration(text);
  report.line(describe(known));
  return known;
}

function describe(figures: Calibration): string {
  const pair = ({ one, all }: Peak, unit: string): string => `${one.toFixed(0)} / ${all.toFixed(0)} ${unit}`;
  const { f32, bf16, l2, read, triad } = figures;
  return `roofline (1 / ${figures.threads} threads): f32 ${pair(f32, 'GFLOP/s')}, bf16 ${pair(bf16, 'GFLOP/s')}, L2 ${pair(l2, 'GB/s')}, memory read ${pair(read, 'GB/s')}, triad ${pair(triad, 'GB/s')}`;
}

/** Percent that `value` is of `peak`. */
export const percentOf = (value: number, peak: number): number => rounded((100 * value) / peak, 1);

/** The GFLOP/s of all threads at a dtype. */
export const peakFlops = (figures: Calibration, dtype: string): number => (dtype === 'bf16' ? figures.bf16.all : figures.f32.all);

/** The form that profiles are set against. */
export const rooflineOf = (figures: Calibration) => ({
  gflops: { f32: figures.f32.all, bf16: figures.bf16.all },
  gigabytesPerSecond: Math.max(figures.read.all, figures.triad.all),
});
