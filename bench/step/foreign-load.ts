import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { measure, rounded } from '../harness.js';

/** What a step takes while processes of other people keep every core busy. */
export interface LoadNumbers {
  /** Milliseconds: medians of the quiet rounds, and of those under load. */
  readonly ms_quiet: number;
  readonly ms_loaded: number;
  /** Percent of the quiet throughput that is left. With one busy process a core, a fair scheduler leaves 50. */
  readonly percent_left: number;
}

async function spin(): Promise<ChildProcess> {
  const child = spawn(process.execPath, ['-e', 'process.stdout.write("busy"); for (;;);'], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout as NodeJS.ReadableStream, 'data');
  return child;
}

async function stop(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

/** Runs `work` in rounds of `iterations`, in turns alone and beside one spinning process a core. */
export async function underForeignLoad(work: () => Promise<unknown>, rounds: number, iterations: number): Promise<LoadNumbers> {
  const quiet: number[] = [];
  const loaded: number[] = [];
  const round = async (into: number[]) => {
    const [timing] = await measure([{ name: 'step', run: work }], { iterations, time: 0, warmup: 1 });
    if (timing) into.push(timing.p50);
  };
  for (let i = 0; i < rounds; i++) {
    await round(quiet);
    const others = await Promise.all(Array.from({ length: availableParallelism() }, spin));
    try {
      await round(loaded);
    } finally {
      await Promise.all(others.map(stop));
    }
  }
  const [ms_quiet, ms_loaded] = [quiet, loaded].map((times) => rounded(times.sort((a, b) => a - b)[times.length >> 1] ?? Number.NaN)) as [
    number,
    number,
  ];
  return { ms_quiet, ms_loaded, percent_left: rounded((100 * ms_quiet) / ms_loaded, 0) };
}
