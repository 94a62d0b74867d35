// A chat model learns to classify questions through the command line alone: TREC-6, LoRA r=16 on all linears, 200 steps of 16, loss on the label.
// npm run bench -- trec6 [--seeds 1,2,3] [--bases bf16,4-bit,nf4] [--steps 200] [--peer PYTHON --peer-model FOLDER] [--json]
//   --peer-model is the same model as a Hugging Face folder in bf16; PEFT then runs the same recipe.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Report, rounded, type Suite } from './harness.js';

const flags = {
  seeds: { type: 'string', default: '1,2,3' },
  bases: { type: 'string', default: 'bf16,4-bit' },
  steps: { type: 'string', default: '200' },
  peer: { type: 'string' },
  'peer-model': { type: 'string' },
} as const;

/** What the frozen weights are: all of it in bf16; the blocks of the file with bf16 activations; NF4 made of them. */
const bases: Readonly<Record<string, readonly string[]>> = {
  bf16: ['dtype=bf16'],
  '4-bit': ['dtype=stored', 'compute=bf16'],
  nf4: ['dtype=nf4', 'compute=bf16'],
};

const recipe = 'bench/trec6/recipe.yaml';
const data = process.env.LORIKEET_DATA ?? '../shared/data';
const questions = join(data, 'sentence-classification');

interface Row {
  readonly who: string;
  readonly seed: number;
  readonly zeroShot: number;
  readonly accuracy: number;
  readonly loss: number;
  readonly seconds: number;
  readonly tokensPerSecond: number;
  readonly peakMb: number;
}

function lorikeet(args: readonly string[]): Record<string, number> {
  const text = execFileSync(process.execPath, ['dist/cli/main.js', ...args, '--json', '--quiet'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return JSON.parse(text.trim().split('\n').at(-1) ?? '{}') as Record<string, number>;
}

function ours(base: string, seed: number, steps: number, folder: string): Row {
  const chosen = bases[base];
  if (chosen === undefined) throw new Error(`trec6: unknown base "${base}"; expected ${Object.keys(bases).join(', ')}`);
  const settings = [
    ...chosen,
    `model=${join(data, 'smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf')}`,
    `data.train.path=${join(questions, 'trec6.train.jsonl')}`,
    `data.eval.path=${join(questions, 'trec6.dev.jsonl')}`,
    `training.seed=${seed}`,
    `training.steps=${steps}`,
  ].flatMap((set) => ['--set', set]);
  const out = join(folder, `${base}-${seed}`);
  const zeroShot = lorikeet(['evaluate', '--recipe', recipe, ...settings]).accuracy ?? Number.NaN;
  const trained = lorikeet(['train', recipe, ...settings, '--out', out]);
  const after = lorikeet(['evaluate', '--recipe', recipe, ...settings, '--adapter', join(out, 'adapter')]);
  return {
    who: base,
    seed,
    zeroShot: rounded(zeroShot, 4),
    accuracy: rounded(after.accuracy ?? Number.NaN, 4),
    loss: rounded(trained.loss ?? Number.NaN, 4),
    seconds: rounded(trained.seconds ?? Number.NaN, 1),
    tokensPerSecond: rounded(trained.tokensPerSecond ?? Number.NaN, 1),
    peakMb: Math.round(residentBytes(out) / 2 ** 20),
  };
}

/** The most physical memory that the process of a run had after any step. */
function residentBytes(run: string): number {
  const lines = readFileSync(join(run, 'metrics.jsonl'), 'utf8').trim().split('\n');
  return Math.max(...lines.map((line) => (JSON.parse(line) as { residentBytes?: number }).residentBytes ?? 0));
}

function peers(python: string, model: string, seeds: string, steps: number): Row[] {
  const args = ['bench/peers/trec6.py', '--model', model, '--data', questions, '--seeds', seeds, '--steps', String(steps)];
  const text = execFileSync(python, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return text
    .trim()
    .split('\n')
    .map((line) => ({ who: 'peft bf16', ...(JSON.parse(line) as Omit<Row, 'who'>) }));
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

function run(args: readonly string[], report: Report): Promise<object> {
  const { values } = parseArgs({ args: [...args], options: flags });
  const steps = Number(values.steps);
  const folder = mkdtempSync(join(tmpdir(), 'lorikeet-trec6-'));
  const rows: Row[] = [];
  const add = (row: Row): void => {
    rows.push(row);
    report.line(JSON.stringify(row));
  };
  try {
    for (const base of values.bases.split(','))
      for (const seed of values.seeds.split(',').map(Number)) add(ours(base, seed, steps, folder));
    if (values.peer !== undefined) {
      if (values['peer-model'] === undefined) throw new Error('trec6: --peer needs --peer-model, the model as a Hugging Face folder');
      for (const row of peers(values.peer, values['peer-model'], values.seeds, steps)) add(row);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const means = [...new Set(rows.map(({ who }) => who))].map((who) => {
    const own = rows.filter((row) => row.who === who);
    const of = (key: Exclude<keyof Row, 'who'>, digits: number): number => rounded(mean(own.map((row) => row[key])), digits);
    return { who, zeroShot: of('zeroShot', 4), accuracy: of('accuracy', 4), seconds: of('seconds', 1), peakMb: of('peakMb', 0) };
  });
  report.table(means);
  return Promise.resolve({ rows, means });
}

export const suite: Suite = { description: 'accuracy on TREC-6 after 200 steps through the command line', run };
