import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The keys that both sides print. */
export interface StepNumbers {
  readonly ms: number;
  readonly ms_min: number;
  readonly tokens_per_s: number;
  readonly peak_mb: number;
  readonly trainable: number;
  /** Of our own runs. */
  readonly percent_of_roofline?: number;
}

/** What a script that tries several forms of the peer says of the fastest. */
interface BestForm extends StepNumbers {
  readonly compile: boolean;
  readonly adapter: string;
  readonly tcmalloc: boolean;
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

/** The last line that a command prints, read as JSON. */
export function runJson(command: string, args: readonly string[], environment: Readonly<Record<string, string>> = {}): StepNumbers {
  const env = { ...process.env, ...environment };
  const text = execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 24, env });
  return JSON.parse(text.trim().split('\n').at(-1) ?? '{}') as StepNumbers;
}

const main = fileURLToPath(new URL('../main.js', import.meta.url));

/** A suite of ours in a process of its own. */
export const benchJson = (args: readonly string[]): StepNumbers => runJson(process.execPath, [main, ...args, '--json']);

const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
};

/** How to run the peer in a round. A script named `*_best.py` tries all forms once; the fastest of them is then run by the `*_step.py` beside it. */
function peerRun({ python, script, theirs }: PeerOptions, onRun: (who: string, numbers: StepNumbers) => void): () => StepNumbers {
  if (!basename(script).endsWith('_best.py')) return () => runJson(python, [script, ...theirs]);
  const best = runJson(python, [script, ...theirs]) as BestForm;
  onRun(`best peer${best.compile ? ', compiled' : ''}${best.tcmalloc ? ', tcmalloc' : ''}, ${best.adapter} adapters:`, best);
  const step = join(dirname(script), basename(script).replace('_best.py', '_step.py'));
  const form = ['--adapter-dtype', best.adapter, ...(best.compile ? ['--compile'] : [])];
  return () => runJson(python, [step, ...theirs, ...form], best.tcmalloc ? { LD_PRELOAD: tcmalloc() } : {});
}

/** Where Debian puts the library. */
function tcmalloc(): string {
  const places = readdirSync('/usr/lib').map((folder) => join('/usr/lib', folder, 'libtcmalloc_minimal.so.4'));
  const found = places.find((path) => existsSync(path));
  if (found === undefined) throw new Error('step: the fastest form of the peer used tcmalloc, which is not installed here');
  return found;
}

/** Runs both in alternation, each in a process of its own, so that drift of the machine meets both alike and peaks of memory are their own. */
export function compare(options: PeerOptions, onRun: (who: string, numbers: StepNumbers) => void): Comparison {
  const own: StepNumbers[] = [];
  const peer: StepNumbers[] = [];
  const runPeer = peerRun(options, onRun);
  for (let round = 0; round < options.rounds; round++) {
    const ours = benchJson(['step', ...options.own]);
    onRun('lorikeet', ours);
    own.push(ours);
    const theirs = runPeer();
    onRun('peer', theirs);
    peer.push(theirs);
  }
  const of = (rows: readonly StepNumbers[], key: keyof StepNumbers): number[] => rows.map((row) => row[key] ?? Number.NaN);
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
