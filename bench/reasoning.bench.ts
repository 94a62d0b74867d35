// Adapters on a chat model that learns to reason: training on instructions of a collection, accuracy of what it answers to held-out ones.
// npm run bench -- reasoning [--model PATH] [--sets AddSub,boolq] [--methods lora,adapterH,adapterP,parallel,prefix] [--rows 500] [--held 100]
//                            [--batch 8] [--seed 1] [--dtype bf16] [--json]
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { answerAccuracy, attach, loadModel, train } from 'lorikeet';
import { type AnswerKind, answerKinds, type Instruction, instructionRows, isAnswered } from 'lorikeet/data';
import type { AdapterConfig } from '#dist/adapters/index.js';
import { type Report, rounded, type Suite } from './harness.js';

const data = process.env.LORIKEET_DATA ?? '../shared/data';
const flags = {
  model: { type: 'string', default: join(data, 'smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf') },
  dtype: { type: 'string', default: 'bf16' },
  sets: { type: 'string', default: 'AddSub,SingleEq,boolq' },
  methods: { type: 'string', default: 'none,lora,adapterH,adapterP,parallel,prefix' },
  rows: { type: 'string', default: '500' },
  held: { type: 'string', default: '100' },
  batch: { type: 'string', default: '8' },
  seed: { type: 'string', default: '1' },
} as const;

const both = ['q_proj', 'k_proj', 'v_proj', 'up_proj', 'down_proj'];

/** The settings of the published tables, with widths for a small model; `none` is the model itself. */
const methods: Readonly<Record<string, { readonly config: AdapterConfig; readonly learningRate: number } | undefined>> = {
  none: undefined,
  lora: { config: { type: 'lora', rank: 32, alpha: 64, targets: both }, learningRate: 3e-4 },
  adapterH: { config: { type: 'bottleneck', bottleneckSize: 64 }, learningRate: 3e-4 },
  adapterP: { config: { type: 'bottleneck', bottleneckSize: 64, adapterP: true }, learningRate: 3e-4 },
  parallel: { config: { type: 'bottleneck', bottleneckSize: 64, parallel: true, targets: ['up_proj', 'down_proj'] }, learningRate: 3e-4 },
  prefix: { config: { type: 'prefix', virtualTokens: 10 }, learningRate: 3e-2 },
};

const kSequence = 256;

function kindOf(set: string): AnswerKind {
  const kind = answerKinds[set];
  if (kind === undefined) throw new Error(`reasoning: unknown set "${set}"; expected ${Object.keys(answerKinds).join(', ')}`);
  return kind;
}

/** Rows of a collection; of those to train on, whose rationales are written by a machine, the ones that come to the right answer. */
function read(set: string, split: 'train' | 'dev', count: number): Instruction[] {
  const isMath = ['number', 'letter'].includes(kindOf(set));
  const folder = isMath ? 'math-word-problems' : 'commonsense';
  const lines = readFileSync(join(data, folder, `${set}.${split}.jsonl`), 'utf8')
    .trim()
    .split('\n');
  const rows = lines.map((line) => JSON.parse(line) as Instruction);
  const kind = kindOf(set);
  const usable = split === 'dev' ? rows : rows.filter((row, index) => isAnswered(row.output ?? '', row, kind, index));
  return usable.slice(0, count);
}

async function run(args: readonly string[], report: Report): Promise<object> {
  const { values } = parseArgs({ args: [...args], options: flags });
  const sets = values.sets.split(',');
  const [count, held, batch, seed] = [values.rows, values.held, values.batch, values.seed].map(Number) as [number, number, number, number];
  const results: { method: string; parameters: number; seconds: number; accuracy: Record<string, number> }[] = [];
  const rows = sets.flatMap((set) => read(set, 'train', Math.ceil(count / sets.length)));
  for (const name of values.methods.split(',')) {
    if (!Object.hasOwn(methods, name)) throw new Error(`reasoning: unknown method "${name}"; expected ${Object.keys(methods).join(', ')}`);
    const method = methods[name];
    const model = await loadModel(values.model, { dtype: values.dtype as 'bf16' });
    const tuned = method === undefined ? undefined : await attach(model, method.config, { seed });
    const began = performance.now();
    if (tuned !== undefined && method !== undefined) {
      const steps = Math.ceil(rows.length / batch);
      const training = {
        steps,
        batch,
        sequence: kSequence,
        learningRate: method.learningRate,
        schedule: 'linear',
        warmup: Math.ceil(steps / 10),
        seed,
      } as const;
      await train(tuned, { data: { train: { rows: instructionRows(rows), prompt: 'prompt', completion: 'completion' } }, training });
    }
    const seconds = rounded((performance.now() - began) / 1000, 1);
    const accuracy: Record<string, number> = {};
    for (const set of sets) {
      const found = await answerAccuracy(tuned ?? model, read(set, 'dev', held), { kind: kindOf(set), maxNewTokens: 128 });
      accuracy[set] = rounded(found.accuracy, 4);
    }
    const parameters = tuned?.table().reduce((sum, row) => sum + row.parameters, 0) ?? 0;
    results.push({ method: name, parameters, seconds, accuracy });
    report.line(`${name}: ${parameters} parameters, ${seconds} s, ${JSON.stringify(accuracy)}`);
    tuned?.dispose();
    model.dispose();
  }
  report.table(results.map(({ accuracy, ...row }) => ({ ...row, ...accuracy })));
  return { rows: rows.length, results };
}

export const suite: Suite = {
  description: 'adapters on a chat model that learns word problems and questions; accuracy of generated answers',
  run,
};
