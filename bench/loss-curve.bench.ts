// Loss by step of the same training in several dtypes: math word problems, LoRA r=16 on all linears, the same rows in the same order.
// npm run bench -- loss-curve [--dtypes f32,bf16] [--steps 300] [--batch 4] [--seq 256] [--noise-seeds 2,3] [--noise-steps 60] [--model PATH] [--json]
//   A dtype may name what it is computed in: bf16/int8. --noise-seeds trains the first dtype again with other seeds and fewer steps: how far runs lie apart that differ in nothing but luck.
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { evaluate, type LoadOptions, loadModel, train } from 'lorikeet';
import { attach } from '#dist/adapters/index.js';
import { type Report, rounded, type Suite } from './harness.js';

const data = process.env.LORIKEET_DATA ?? '../shared/data';
const flags = {
  model: { type: 'string', default: join(data, 'smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf') },
  dtypes: { type: 'string', default: 'f32,bf16' },
  steps: { type: 'string', default: '300' },
  batch: { type: 'string', default: '4' },
  seq: { type: 'string', default: '256' },
  'noise-seeds': { type: 'string', default: '2,3' },
  'noise-steps': { type: 'string', default: '60' },
} as const;

/** Steps whose losses make a point of a curve. */
const kEvery = 10;
const problems = (names: readonly string[], split: string) =>
  names.map((name) => ({
    path: join(data, `math-word-problems/${name}.${split}.jsonl`),
    prompt: '{instruction}\n',
    completion: '{output}',
  }));
const rowsToLearn = problems(['gsm8k', 'SVAMP', 'MultiArith', 'SingleEq', 'AddSub'], 'train');
const heldOut = problems(['SingleEq', 'AddSub'], 'dev');

interface RunOptions {
  readonly model: string;
  readonly dtype: string;
  readonly seed: number;
  readonly steps: number;
  readonly batch: number;
  readonly seq: number;
}

interface Curve {
  readonly dtype: string;
  readonly seed: number;
  /** Mean losses of `kEvery` steps each. */
  readonly losses: readonly number[];
  /** Held-out loss before the first step, in the middle and after the last. */
  readonly heldOut: readonly number[];
}

async function curveOf(options: RunOptions, report: Report): Promise<Curve> {
  const { dtype, seed, steps, batch, seq } = options;
  const [kept, compute] = dtype.split('/');
  const loading = { dtype: kept, ...(compute !== undefined && { compute }) } as LoadOptions;
  const model = await loadModel(options.model, loading);
  try {
    const tuned = await attach(model, { type: 'lora', rank: 16, alpha: 32, targets: 'all-linear' }, { seed });
    const heldOutLoss = async (): Promise<number> => rounded((await evaluate(tuned, heldOut, { maxLength: seq })).nll, 4);
    const held = [await heldOutLoss()];
    const losses: number[] = [];
    let window: number[] = [];
    const training = { steps, batch, sequence: seq, packing: true, learningRate: 2e-4, schedule: 'linear', warmup: 10, seed } as const;
    for await (const { step, loss } of train(tuned, { data: { train: rowsToLearn }, training })) {
      window.push(loss);
      if (step % kEvery === 0) {
        losses.push(rounded(mean(window), 4));
        window = [];
        report.line(`${dtype} seed ${seed} step ${step}: ${losses.at(-1)}`);
      }
      if (step === steps >> 1) held.push(await heldOutLoss());
    }
    held.push(await heldOutLoss());
    report.line(`${dtype} seed ${seed} held-out: ${held.join(', ')}`);
    return { dtype, seed, losses, heldOut: held };
  } finally {
    model.dispose();
  }
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const spread = (values: readonly number[]): number => Math.max(...values) - Math.min(...values);

/** How far a curve lies from the first one, and how far runs of other seeds lie apart. */
function differences(first: Curve, other: Curve) {
  const gaps = other.losses.map((loss, i) => loss - (first.losses[i] ?? Number.NaN));
  return {
    dtype: other.dtype,
    mean_gap: rounded(mean(gaps), 4),
    largest_gap: rounded(Math.max(...gaps.map(Math.abs)), 4),
    held_out_gap: rounded((other.heldOut.at(-1) ?? Number.NaN) - (first.heldOut.at(-1) ?? Number.NaN), 4),
  };
}

async function run(args: readonly string[], report: Report): Promise<object> {
  const { values } = parseArgs({ args: [...args], options: flags });
  const options = { model: values.model, batch: Number(values.batch), seq: Number(values.seq) };
  const dtypes = values.dtypes.split(',');
  const curves: Curve[] = [];
  for (const dtype of dtypes) curves.push(await curveOf({ ...options, dtype, seed: 1, steps: Number(values.steps) }, report));
  const noise: Curve[] = [];
  const seeds = values['noise-seeds'] === '' ? [] : [1, ...values['noise-seeds'].split(',').map(Number)];
  for (const seed of seeds)
    noise.push(await curveOf({ ...options, dtype: dtypes[0] as string, seed, steps: Number(values['noise-steps']) }, report));
  const [first, ...others] = curves;
  report.table(
    (first?.losses ?? []).map((_, i) => ({
      step: (i + 1) * kEvery,
      ...Object.fromEntries(curves.map(({ dtype, losses }) => [dtype, losses[i] ?? ''])),
    })),
  );
  const gaps = others.map((other) => differences(first as Curve, other));
  report.table(gaps);
  const heldOutSpread = noise.length === 0 ? undefined : rounded(spread(noise.map((curve) => curve.heldOut.at(-1) ?? Number.NaN)), 4);
  if (heldOutSpread !== undefined) report.line(`held-out losses of ${noise.length} seeds of ${dtypes[0]} lie ${heldOutSpread} apart`);
  return { curves, noise, gaps, heldOutSpread };
}

export const suite: Suite = { description: 'loss by step in several dtypes, beside the spread of seeds', run };
