import { readFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { isaLevel, threads } from 'lorikeet';
import { Bench } from 'tinybench';

/** One benchmark: `bench/<name>.bench.ts` exports it as `suite`. */
export interface Suite {
  /** One line for `npm run bench` without arguments. */
  readonly description: string;
  /** Parses its own options (without --json) and measures. What it returns is printed as one JSON object with --json. */
  run(args: readonly string[], report: Report): Promise<object>;
}

/** Where a suite prints for people: standard error with --json, so that standard output ends with the JSON object. */
export interface Report {
  line(text: string): void;
  table(rows: readonly Readonly<Record<string, string | number>>[]): void;
}

export interface Timing {
  /** Milliseconds: the fastest run and the median of all. */
  readonly min: number;
  readonly p50: number;
  readonly runs: number;
}

export interface MeasureOptions {
  /** Measured runs at least. Default 10. */
  readonly iterations?: number;
  /** Milliseconds to go on measuring at least. Default 300; 0 for exactly `iterations`. */
  readonly time?: number;
  /** Runs before measuring. Default 3. */
  readonly warmup?: number;
}

export interface Variant {
  readonly name: string;
  readonly run: () => unknown;
}

/** Times variants one after the other. Each run must end with its result there (await `synchronize()` or the data). */
export async function measure(variants: readonly Variant[], options: MeasureOptions = {}): Promise<Timing[]> {
  const { iterations = 10, time = 300, warmup = 3 } = options;
  const bench = new Bench({ iterations, time, warmup: warmup > 0, warmupIterations: warmup, warmupTime: 0, throws: true });
  for (const { name, run } of variants) bench.add(name, run, { async: true });
  const tasks = await bench.run();
  return tasks.map(({ name, result }) => {
    if (result.state !== 'completed') throw new Error(`bench: ${name} did not complete; it is ${result.state}`);
    return { min: result.latency.min, p50: result.latency.p50, runs: result.latency.samplesCount };
  });
}

/** CPU, instruction level, threads, memory, versions: what a number must be quoted with. */
export function machine(): string {
  const model = cpus()[0]?.model.trim() ?? 'unknown CPU';
  const gib = (totalmem() / 2 ** 30).toFixed(0);
  return `${model}, ${isaLevel()}, ${threads()} threads of ${cpus().length} CPUs, ${gib} GiB, governor ${governor()}, Node ${process.version}`;
}

function governor(): string {
  try {
    return readFileSync('/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor', 'utf8').trim();
  } catch {
    return 'unknown';
  }
}

export const rounded = (value: number, digits = 2): number => Number(value.toFixed(digits));

/** GFLOP/s for work of `flops` that took `ms`. */
export const gigaflops = (flops: number, ms: number): number => rounded(flops / ms / 1e6, 1);
/** GB/s for `bytes` moved in `ms`. */
export const gigabytes = (bytes: number, ms: number): number => rounded(bytes / ms / 1e6, 1);
