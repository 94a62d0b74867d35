// The DIGITS-VIT experiment: a small vision transformer that knows the digits 0 to 4 learns 5 to 9 from 20 images each.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { newVit, type VitNetwork } from '#dist/models/vit.js';
import { Linear } from '#dist/nn/index.js';
import { tensor } from '#dist/ops/create.js';
import { mul } from '#dist/ops/elementwise.js';
import { indexSelect } from '#dist/ops/index-ops.js';
import { logitsCrossEntropy } from '#dist/ops/loss.js';
import { argmax } from '#dist/ops/reduce.js';
import { copyInto } from '#dist/ops/shape.js';
import { AdamW, cosineSchedule } from '#dist/optim/index.js';
import { RandomScope } from '#dist/random.js';
import { noGrad, scope } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';

const kSide = 8;
const kClasses = 5;
const kPerClass = 20;

export const digitsVitConfig = {
  model_type: 'vit',
  image_size: kSide,
  patch_size: 2,
  num_channels: 1,
  hidden_size: 48,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  intermediate_size: 192,
  hidden_act: 'gelu',
  layer_norm_eps: 1e-6,
};

/** Images of five digits. */
export interface DigitsTask {
  /** f32 [rows, 1, 8, 8], from 0 to 1. */
  readonly images: Tensor;
  /** i64 [rows], 0 to 4. */
  readonly labels: Tensor;
  readonly rows: number;
}

export interface DigitsTasks {
  /** All images of 0 to 4. */
  readonly old: DigitsTask;
  /** 20 images each of 5 to 9. */
  readonly few: DigitsTask;
  /** The other images of 5 to 9. */
  readonly rest: DigitsTask;
}

/** Reads `digits.csv` of a folder; `seed` says which images are the few. */
export function readDigitsTasks(folder: string, seed: number): DigitsTasks {
  const rows = readFileSync(join(folder, 'digits.csv'), 'utf8')
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(',').map(Number));
  const below = drawsOf(seed);
  const shuffled = rows.filter(([digit = 0]) => digit >= kClasses).map((row) => ({ row, key: below(1 << 30) }));
  const fresh = shuffled.sort((a, b) => a.key - b.key).map(({ row }) => row);
  const seen = new Map<number, number>();
  const isFew = fresh.map(([digit = 0]) => {
    const count = (seen.get(digit) ?? 0) + 1;
    seen.set(digit, count);
    return count <= kPerClass;
  });
  return {
    old: taskOf(rows.filter(([digit = 0]) => digit < kClasses)),
    few: taskOf(fresh.filter((_, i) => isFew[i])),
    rest: taskOf(fresh.filter((_, i) => !isFew[i])),
  };
}

const taskOf = (rows: readonly (readonly number[])[]): DigitsTask => ({
  images: tensor(Float32Array.from(rows.flatMap((row) => row.slice(1).map((value) => value / 16))), {
    shape: [rows.length, 1, kSide, kSide],
  }),
  labels: tensor(BigInt64Array.from(rows.map(([digit = 0]) => BigInt(digit % kClasses)))),
  rows: rows.length,
});

export function disposeDigitsTasks({ old, few, rest }: DigitsTasks): void {
  for (const { images, labels } of [old, few, rest]) for (const x of [images, labels]) x.dispose();
}

/** Whole numbers below a bound, one after the other (the generator of Lehmer, whose high bits are good). */
function drawsOf(seed: number): (bound: number) => number {
  let state = (seed * 7919 + 12345) % 2147483647;
  const next = (): number => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
  for (let i = 0; i < 8; i++) next();
  return (bound) => Math.floor(next() * bound);
}

/** A batch with every image moved by up to one pixel; what comes in is 0. */
function shifted(values: Float32Array, rows: readonly number[], below: (bound: number) => number): Tensor {
  const pixels = new Float32Array(rows.length * kSide * kSide);
  for (const [i, row] of rows.entries()) {
    const [down, right] = [below(3) - 1, below(3) - 1];
    for (let y = Math.max(0, down); y < Math.min(kSide, kSide + down); y++)
      for (let x = Math.max(0, right); x < Math.min(kSide, kSide + right); x++)
        pixels[(i * kSide + y) * kSide + x] = values[(row * kSide + y - down) * kSide + x - right] as number;
  }
  return tensor(pixels, { shape: [rows.length, 1, kSide, kSide] });
}

export interface PretrainOptions {
  /** Default 1,200, after which 95 of 100 digits and more are right. */
  readonly steps?: number;
  /** Changes of the config, for other sizes. */
  readonly config?: object;
}

/** A network that knows the old task, frozen: AdamW, falling from 1.5e-3 to 0 on half a cosine, on batches of 16 moved images. */
export function pretrainedVit(
  seed: number,
  { images, labels, rows }: DigitsTask,
  { steps = 1200, config }: PretrainOptions = {},
): VitNetwork {
  const network = new RandomScope(seed).within(() => newVit({ ...digitsVitConfig, ...config }, 'classification', { labels: kClasses }));
  // Where patches are this small, a network that tells places apart from the start learns in half of the steps.
  const positions = network.vit.embeddings.position_embeddings;
  scope(() => noGrad(() => copyInto(positions, mul(positions, 8))));
  const optimizer = new AdamW(network.trainableParameters(), { learningRate: 1.5e-3 });
  const rate = cosineSchedule({ steps });
  const values = images.dataSync() as Float32Array;
  const below = drawsOf(seed);
  for (let i = 0; i < steps; i++) {
    const batch = Array.from({ length: 16 }, () => below(rows));
    step(
      optimizer,
      () => logitsCrossEntropy(network.forward({ pixels: shifted(values, batch, below) }, { training: true }), rowsOf(labels, batch)),
      rate(i),
    );
  }
  optimizer.dispose();
  network.freeze();
  return network;
}

/** Gives a network a new head that is trained, in place of the one it has. */
export function freshHead(network: VitNetwork, seed: number): Linear {
  const before = network.classifier;
  const head = new Linear(network.shape.hiddenSize, kClasses, { role: 'head', seed });
  network.classifier = head;
  before?.dispose();
  return head;
}

const rowsOf = (x: Tensor, rows: readonly number[]): Tensor => indexSelect(x, 0, tensor(Int32Array.from(rows)));

function step(optimizer: AdamW, loss: () => Tensor, rateFactor = 1): number {
  return scope(() => {
    const value = loss();
    value.backward();
    optimizer.step({ rateFactor });
    optimizer.zeroGrad();
    return value.dataSync()[0] as number;
  });
}

export interface AdaptOptions {
  /** What is trained, the head included. */
  readonly parameters: Iterable<Tensor>;
  readonly steps: number;
  /** Default 5e-3, falling to 0 on half a cosine. */
  readonly learningRate?: number;
  /** Default 0.01. */
  readonly weightDecay?: number;
  readonly batch?: number;
  /** Move every image by up to one pixel, as in pretraining. Default false. */
  readonly moved?: boolean;
  readonly seed: number;
  /** Loss of a batch of images; default: cross-entropy of one pass in training. */
  readonly loss?: (pixels: Tensor, labels: Tensor) => Tensor;
  /** Called after each step. */
  readonly afterStep?: (step: number) => void;
}

/** Trains on a task in batches drawn with replacement (default 32); returns the loss before each step. */
export function adaptVit(network: VitNetwork, task: DigitsTask, options: AdaptOptions): number[] {
  const {
    steps,
    learningRate = 5e-3,
    weightDecay = 0.01,
    batch = 32,
    moved = false,
    seed,
    loss = (pixels, labels) => logitsCrossEntropy(network.forward({ pixels }, { training: true }), labels),
  } = options;
  const optimizer = new AdamW([...options.parameters], { learningRate, weightDecay });
  const rate = cosineSchedule({ steps });
  const below = drawsOf(seed);
  const values = task.images.dataSync() as Float32Array;
  const losses: number[] = [];
  for (let i = 0; i < steps; i++) {
    const rows = Array.from({ length: batch }, () => below(task.rows));
    losses.push(
      step(
        optimizer,
        () => {
          const pixels = moved ? shifted(values, rows, below) : rowsOf(task.images, rows);
          return loss(pixels, rowsOf(task.labels, rows));
        },
        rate(i),
      ),
    );
    options.afterStep?.(i);
  }
  optimizer.dispose();
  return losses;
}

/** Share of right answers and mean cross-entropy of a task, out of training. */
export function evaluateVit(network: VitNetwork, { images, labels, rows }: DigitsTask): { accuracy: number; loss: number } {
  return scope(() =>
    noGrad(() => {
      const logits = network.forward({ pixels: images }, { training: false });
      const guesses = argmax(logits, -1).dataSync();
      const truth = labels.dataSync();
      let right = 0;
      for (let i = 0; i < rows; i++) right += Number(guesses[i] === truth[i]);
      return { accuracy: right / rows, loss: logitsCrossEntropy(logits, labels).dataSync()[0] as number };
    }),
  );
}
