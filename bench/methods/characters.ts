// A small language model of characters: what it is made of, the problems that it reads, training it whole and training an adapter on it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Model } from 'lorikeet';
import { AdamW, clipScale, gradientNorm, linearSchedule, warmupSchedule } from 'lorikeet/optim';
import { createNetwork } from '#dist/models/registry.js';
import { normal, ones } from '#dist/ops/create.js';
import { noGrad, scope, unscoped } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';

const kContext = 256;
const kCharacters = 90;
/** Stands for what is not among the characters. */
const kOther = 0;

/** A problem as ids, and how many of them are the question. */
export interface Problem {
  readonly ids: readonly number[];
  readonly question: number;
}

/** Reads collections of problems, and writes them with the characters that are most common in all of them. */
export class Problems {
  readonly #folder: string;
  readonly #ids: ReadonlyMap<string, number>;

  constructor(data: string, sets: readonly string[]) {
    this.#folder = join(data, 'math-word-problems');
    const counts = new Map<string, number>();
    for (const set of sets)
      for (const character of this.#texts(set, 'train').flatMap((parts) => [...parts.join('')]))
        counts.set(character, (counts.get(character) ?? 0) + 1);
    const common = [...counts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1)).slice(0, kCharacters - 1);
    this.#ids = new Map(common.map(([character], i) => [character, i + 1]));
  }

  #texts(set: string, split: string): [question: string, rationale: string][] {
    const lines = readFileSync(join(this.#folder, `${set}.${split}.jsonl`), 'utf8')
      .trim()
      .split('\n');
    return lines.map((line) => {
      const { instruction, output } = JSON.parse(line) as { instruction: string; output: string };
      return [instruction, `${output}\n`];
    });
  }

  /** The problems of some collections that leave room for a rationale. */
  read(sets: readonly string[], split: string): Problem[] {
    const encode = (text: string): number[] => [...text].map((character) => this.#ids.get(character) ?? kOther);
    return sets
      .flatMap((set) => this.#texts(set, split))
      .map(([question, rationale]) => ({ ids: encode(question + rationale).slice(0, kContext), question: [...question].length }))
      .filter(({ ids, question }) => question < ids.length);
  }
}

const config = {
  model_type: 'llama',
  vocab_size: kCharacters,
  hidden_size: 96,
  intermediate_size: 256,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  // Room for virtual tokens in front.
  max_position_embeddings: kContext + 64,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  hidden_act: 'silu',
  tie_word_embeddings: false,
};

/** A model of the size of the experiment with random weights. */
export function characterModel(seed: number): Model {
  const network = createNetwork(config);
  let stream = 0;
  for (const [, module] of network.namedModules()) {
    for (const [name, shape] of Object.entries(module.parameterShapes())) {
      const value = unscoped(() => (shape.length === 1 ? ones(shape) : normal(shape, { std: 0.02, seed, stream: stream++ })));
      module.assign(name, value);
    }
  }
  return new Model({ network, config, device: 'cpu', endTokens: [], tokenizer: undefined, source: 'characters' });
}

interface Training {
  readonly model: Pick<Model, 'loss'>;
  readonly parameters: readonly Tensor[];
  readonly rows: readonly Problem[];
  readonly steps: number;
  readonly batch: number;
  readonly learningRate: number;
  readonly warmup?: number;
  readonly seed: number;
  /** Learn the question too. */
  readonly whole?: boolean;
}

/** What should follow each character: of the rationale alone, or of all. */
const targetsOf = ({ ids, question }: Problem, whole: boolean): number[] =>
  ids.map((_, t) => (t + 1 < ids.length && (whole || t + 1 >= question) ? (ids[t + 1] as number) : -100));

/** Adam with gradients cut at norm 1 and a rate that falls to nothing, on rows in a random order. */
export async function trainRows(training: Training): Promise<void> {
  const { model, parameters, rows, steps, batch, learningRate, warmup = 0, seed, whole = false } = training;
  const optimizer = new AdamW([...parameters], { learningRate, weightDecay: 0 });
  const rate = warmup > 0 ? warmupSchedule(warmup, linearSchedule({ steps: steps - warmup })) : linearSchedule({ steps });
  const random = generator(seed);
  for (let step = 0; step < steps; step++) {
    const chosen = Array.from({ length: batch }, () => rows[Math.floor(random() * rows.length)] as Problem);
    await scope(async () => {
      const loss = model.loss({ ids: chosen.map(({ ids }) => ids), targets: chosen.map((row) => targetsOf(row, whole)), training: true });
      loss.backward();
      optimizer.step({ clipScale: clipScale(gradientNorm(parameters), 1), rateFactor: rate(step) });
      optimizer.zeroGrad();
      const value = await loss.item();
      if (!Number.isFinite(value)) throw new Error(`characters: the loss of step ${step} is ${value}`);
    });
  }
  optimizer.dispose();
}

/** Mean loss over every character of the rationales. */
export async function rationaleLoss(model: Pick<Model, 'loss'>, rows: readonly Problem[]): Promise<number> {
  let [total, count] = [0, 0];
  for (let start = 0; start < rows.length; start += 32) {
    const part = rows.slice(start, start + 32);
    const targets = part.map((row) => targetsOf(row, false));
    total += await scope(() =>
      noGrad(() => model.loss({ ids: part.map(({ ids }) => ids), targets, reduction: 'sum', training: false })).item(),
    );
    count += targets.flat().filter((target) => target >= 0).length;
  }
  return total / count;
}

/** Numbers in [0, 1) from a seed (mulberry32). */
function generator(seed: number): () => number {
  let state = (seed * 0x9e3779b9) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
