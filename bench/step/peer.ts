import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The keys that both sides print. */
export interface StepNumbers {
  readonly ms: number;
  readonly ms_min: number;
  readonly tokens_per_s: number;
  readonly peak_mb: number;
  readonly trainable: number;
}

export interface PeerOptions {
  readonly python: string;
  readonly script: string;
  /** Options of this suite, without those about the peer. */
  readonly own: readonly string[];
  /** The same work in the options of the peer script. */
  readonly theirs: readonly string[];
  readonly rounds: number;
}

export interface Comparison {
  readonly own_runs: readonly StepNumbers[];
  readonly peer_runs: readonly StepNumbers[];
  /** Of our runs: the median of the medians, the best of the best. */
  readonly ms: number;
  readonly ms_min: number;
  /** Median time of the peer / ours, and their peak memory / ours: above 1 we are better. */
  readonly ratio: number;
  readonly ratio_min: number;
  readonly ratio_memory: number;
}

function runJson(command: string, args: readonly string[]): StepNumbers {
  const text = execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 24 });
  return JSON.parse(text.trim().split('\n').at(-1) ?? '{}') as StepNumbers;
}

const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
};

/** Runs both in alternation, each in a process of its own, so that drift of the machine meets both alike and peaks of memory are their own. */
export function compare(options: PeerOptions, onRun: (who: string, numbers: StepNumbers) => void): Comparison {
  const own: StepNumbers[] = [];
  const peer: StepNumbers[] = [];
  const main = fileURLToPath(new URL('../main.js', import.meta.url));
  for (let round = 0; round < options.rounds; round++) {
    const ours = runJson(process.execPath, [main, 'step', ...options.own, '--json']);
    onRun('lorikeet', ours);
    own.push(ours);
    const theirs = runJson(options.python, [options.script, ...options.theirs]);
    onRun('peer', theirs);
    peer.push(theirs);
  }
  const of = (rows: readonly StepNumbers[], key: keyof StepNumbers): number[] => rows.map((row) => row[key]);
  const ratio = (key: keyof StepNumbers, take: (values: readonly number[]) => number): number =>
    Number((take(of(peer, key)) / take(of(own, key))).toFixed(3));
  return {
    own_runs: own,
    peer_runs: peer,
    ms: median(of(own, 'ms')),
    ms_min: Math.min(...of(own, 'ms_min')),
    ratio: ratio('ms', median),
    ratio_min: ratio('ms_min', (values) => Math.min(...values)),
    ratio_memory: ratio('peak_mb', median),
  };
}
