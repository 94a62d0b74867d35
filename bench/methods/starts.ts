// LoRA and its initialisations at equal rank on a language model: the variants of the comparison, one training of each.
import { join } from 'node:path';
import { calibrationBatches, evaluate, loadModel, train } from 'lorikeet';
import { type AdapterConfig, attach } from '#dist/adapters/index.js';
import { manualSeed } from '#dist/random.js';
import { type Report, rounded } from '../harness.js';

const data = process.env.LORIKEET_DATA ?? '../shared/data';

/** A model to train: where it is and how its weights are kept. */
export const models = {
  'smollm2-135m': { path: join(data, 'smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf'), dtype: 'bf16' },
  stories260k: { path: join(data, 'llama-stories260k'), dtype: 'f32' },
} as const;
export type ModelName = keyof typeof models;

const problems = (names: readonly string[], split: string) =>
  names.map((name) => ({
    path: join(data, `math-word-problems/${name}.${split}.jsonl`),
    prompt: '{instruction}\n',
    completion: '{output}',
  }));

/** What is learnt, and the held-out rows. */
export const subjects = {
  math: { train: problems(['gsm8k', 'SVAMP', 'MultiArith', 'SingleEq', 'AddSub'], 'train'), held: problems(['SingleEq', 'AddSub'], 'dev') },
  shakespeare: {
    train: { path: join(data, 'shakespeare/train.txt'), separator: '\n\n' },
    held: { path: join(data, 'shakespeare/dev.txt'), separator: '\n\n' },
  },
} as const;
export type Subject = keyof typeof subjects;

interface Start {
  readonly label: string;
  readonly adapter: (rank: number, rates: { readonly learningRate: number; readonly warmup: number }) => object;
  /** The subject whose rows it looks at: 16 batches of 4, as training would see them. */
  readonly data?: (subject: Subject) => Subject;
}

const own = (subject: Subject): Subject => subject;
const other = (subject: Subject): Subject => (subject === 'math' ? 'shakespeare' : 'math');
const lora = (label: string, init: unknown, options: object = {}, data?: Start['data']): Start => ({
  label,
  adapter: (rank) => ({ type: 'lora', rank, alpha: rank, targets: 'all-linear', init, ...options }),
  ...(data && { data }),
});

/** Every start at rank r and alpha r; LoRA-GA with rsLoRA, as published. Knowledge-preserving CorDA looks at the other subject. */
export const starts: Readonly<Record<string, Start>> = {
  lora: lora('LoRA', true),
  pissa: lora('PiSSA', 'pissa'),
  olora: lora('OLoRA', 'olora'),
  'lora-ga': lora('LoRA-GA', { type: 'lora-ga', stableGamma: 64 }, { rsLora: true }, own),
  'corda-ipm': lora('CorDA IPM', { type: 'corda', method: 'ipm' }, {}, own),
  'corda-kpm': lora('CorDA KPM', { type: 'corda', method: 'kpm' }, {}, other),
  eva: lora('EVA', { type: 'eva', maxBatches: 30 }, {}, own),
  'lora-xs': { label: 'LoRA-XS', adapter: (rank) => ({ type: 'lora-xs', rank, alpha: rank, targets: 'all-linear' }) },
  'lora-sb': {
    label: 'LoRA-SB',
    adapter: (rank, rates) => ({
      type: 'lora-xs',
      rank,
      alpha: rank,
      targets: 'all-linear',
      init: { type: 'lora-sb', learningRate: rates.learningRate, warmup: rates.warmup },
    }),
    data: own,
  },
};

export interface RunOptions {
  readonly model: ModelName;
  readonly subject: Subject;
  readonly start: string;
  readonly learningRate: number;
  readonly rank: number;
  readonly steps: number;
  readonly batch: number;
  readonly sequence: number;
  readonly seed: number;
}

export interface Curve extends RunOptions {
  /** Training loss of every step. */
  readonly losses: readonly number[];
  /** Held-out loss after the last step. */
  readonly held: number;
  readonly trainable: number;
  /** Seconds that the initialisation took, and the training steps. */
  readonly startSeconds: number;
  readonly trainSeconds: number;
}

/** Trains one adapter and follows its losses; one model in memory at a time. */
export async function trainOne(options: RunOptions, report: Report): Promise<Curve> {
  const { path, dtype } = models[options.model];
  const start = starts[options.start];
  if (start === undefined) throw new Error(`starts: unknown "${options.start}"; expected ${Object.keys(starts).join(', ')}`);
  manualSeed(options.seed);
  const model = await loadModel(path, { dtype });
  try {
    const { rank, learningRate, steps, batch, sequence, seed, subject } = options;
    const training = {
      steps,
      batch,
      sequence,
      packing: true,
      emptyRows: 'skip',
      learningRate,
      schedule: 'cosine',
      warmup: Math.ceil(steps / 20),
      seed,
    } as const;
    const began = performance.now();
    const tuned = await attach(model, start.adapter(rank, training) as unknown as AdapterConfig, {
      seed,
      ...(start.data === undefined
        ? {}
        : { data: await calibrationBatches(model, subjects[start.data(subject)].train, { batchSize: 4, batches: 16, training }) }),
    });
    const startSeconds = rounded((performance.now() - began) / 1000, 1);
    const losses: number[] = [];
    const trainingBegan = performance.now();
    for await (const { loss } of train(tuned, { data: { train: subjects[subject].train }, training })) losses.push(rounded(loss, 4));
    const trainSeconds = rounded((performance.now() - trainingBegan) / 1000, 1);
    const held = rounded((await evaluate(tuned, subjects[subject].held, { maxLength: sequence })).nll, 4);
    const trainable = tuned.parameters().reduce((sum, { size }) => sum + size, 0);
    const last = losses.slice(-10);
    report.line(
      `${options.model} ${subject} ${start.label} rate ${learningRate}: start ${startSeconds} s, loss of the last 10 steps ` +
        `${rounded(last.reduce((a, b) => a + b, 0) / last.length, 4)}, held-out ${held}, ${trainSeconds} s`,
    );
    return { ...options, losses, held, trainable, startSeconds, trainSeconds };
  } finally {
    model.dispose();
  }
}
