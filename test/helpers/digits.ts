// The DIGITS-MLP experiment: an MLP that knows odd digits learns even ones through adapters on all its layers.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type AdapterConfig, type AdapterSet, attach, type CalibrationRuns, type LoraPlusGroup } from '#dist/adapters/index.js';
import type { LoraXsConfig } from '#dist/adapters/lora-xs-config.js';
import { Linear, Module } from '#dist/nn/index.js';
import { tensor } from '#dist/ops/create.js';
import { relu } from '#dist/ops/elementwise.js';
import { indexSelect } from '#dist/ops/index-ops.js';
import { logitsCrossEntropy } from '#dist/ops/loss.js';
import { argmax } from '#dist/ops/reduce.js';
import { narrow } from '#dist/ops/shape.js';
import { AdamW } from '#dist/optim/index.js';
import { noGrad, scope } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';

const kPixels = 64;
const kWidth = 256;
export const kClasses = 5;
const kTrainRows = 600;
export const kLayers = ['fc1', 'fc2', 'fc3'] as const;

export class Mlp extends Module {
  fc1: Linear;
  fc2: Linear;
  fc3: Linear;

  constructor(seed: number) {
    super();
    const options = { bias: false } as const;
    this.fc1 = new Linear(kPixels, kWidth, { ...options, seed: 10 * seed, role: 'mlp.up' });
    this.fc2 = new Linear(kWidth, kWidth, { ...options, seed: 10 * seed + 1, role: 'mlp.up' });
    this.fc3 = new Linear(kWidth, kClasses, { ...options, seed: 10 * seed + 2, role: 'head' });
  }

  forward(x: Tensor): Tensor {
    return this.fc3.forward(relu(this.fc2.forward(relu(this.fc1.forward(x)))));
  }
}

export interface Task {
  /** [rows, 64], centred. */
  readonly images: Tensor;
  /** i64 [rows]: half the digit. */
  readonly labels: Tensor;
  readonly rows: number;
}

export interface Tasks {
  /** Odd digits. */
  readonly old: Task;
  /** The first 600 even ones. */
  readonly fresh: Task;
  /** The other even ones. */
  readonly held: Task;
  /** Mean of each pixel over all digits, [64], which images are less; pixels are 0 to 1. */
  readonly means: Tensor;
}

/** Reads `digits.csv` of a folder; rows in the order of the file, where neighbours are of one hand, or the even ones shuffled by a seed. */
export function readTasks(folder: string, seed?: number): Tasks {
  const rows = readFileSync(join(folder, 'digits.csv'), 'utf8')
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(',').map(Number));
  const means = Array.from({ length: kPixels }, (_, pixel) => rows.reduce((total, row) => total + (row[pixel + 1] ?? 0), 0) / rows.length);
  const taskOf = (chosen: number[][]): Task => ({
    images: tensor(chosen.map((row) => row.slice(1).map((value, pixel) => (value - (means[pixel] ?? 0)) / 16))),
    labels: tensor(
      chosen.map(([digit = 0]) => digit >> 1),
      { dtype: 'i64' },
    ),
    rows: chosen.length,
  });
  const even = rows.filter(([digit = 0]) => digit % 2 === 0);
  if (seed !== undefined) shuffle(even, seed);
  return {
    old: taskOf(rows.filter(([digit = 0]) => digit % 2 === 1)),
    fresh: taskOf(even.slice(0, kTrainRows)),
    held: taskOf(even.slice(kTrainRows)),
    means: tensor(means.map((mean) => mean / 16)),
  };
}

function shuffle<T>(items: T[], seed: number): void {
  const below = drawsOf(seed);
  for (let i = items.length - 1; i > 0; i--) {
    const j = below(i + 1);
    [items[i], items[j]] = [items[j] as T, items[i] as T];
  }
}

/** Whole numbers below a bound, one after the other. */
function drawsOf(seed: number): (bound: number) => number {
  let state = seed * 7919;
  return (bound) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % bound;
  };
}

export function disposeTasks(tasks: Tasks): void {
  for (const { images, labels } of [tasks.old, tasks.fresh, tasks.held]) for (const x of [images, labels]) x.dispose();
  tasks.means.dispose();
}

/** One step of an optimizer; returns the loss before it. */
export function step(optimizer: AdamW, loss: () => Tensor): number {
  return scope(() => {
    const value = loss();
    value.backward();
    optimizer.step();
    optimizer.zeroGrad();
    return value.dataSync()[0] as number;
  });
}

/** A network that knows the task, frozen. */
export function pretrained(seed: number, { images, labels, rows }: Task): Mlp {
  const network = new Mlp(seed);
  const optimizer = new AdamW(network.trainableParameters(), { learningRate: 1e-3, weightDecay: 0 });
  const below = drawsOf(seed);
  for (let i = 0; i < 300; i++) {
    const batch = Array.from({ length: 128 }, () => below(rows));
    step(optimizer, () => {
      const index = tensor(batch, { dtype: 'i64' });
      return logitsCrossEntropy(network.forward(indexSelect(images, 0, index)), indexSelect(labels, 0, index));
    });
  }
  optimizer.dispose();
  network.freeze();
  return network;
}

/** A view of the first rows. */
export const firstRows = (x: Tensor, rows: number): Tensor => narrow(x, 0, 0, rows);

/** The first `rows` of a task as one batch to look at, for initialisations that want data. */
export function calibration(network: Mlp, { images, labels }: Task, rows = 128): CalibrationRuns<number> {
  const part = (x: Tensor): Tensor => firstRows(x, rows);
  return {
    batches: [rows],
    forward: () => network.forward(part(images)),
    loss: () => logitsCrossEntropy(network.forward(part(images)), part(labels)),
  };
}

export interface Variant {
  /** Rank, alpha and whatever else the adapter takes; targets are all layers. */
  readonly adapter: AdapterConfig;
  readonly learningRate: number;
  readonly groups?: (set: AdapterSet) => LoraPlusGroup[];
  /** Whether the initialisation looks at data. */
  readonly data?: boolean;
}

/** LoRA on all layers; the last one has 5 outputs and so a rank of at most 5, or `last`. */
export function loraConfig(rank: number, alpha: number, options: object = {}, last = Math.min(rank, kClasses)): AdapterConfig {
  return {
    type: 'lora',
    rank,
    alpha,
    rankPattern: last === rank ? {} : { fc3: last },
    alphaPattern: alpha === rank && last !== rank ? { fc3: last } : {},
    targets: [...kLayers],
    ...options,
  } as AdapterConfig;
}

/** LoRA-XS on all layers at scale 1; `init` as in its options. */
export const latentConfig = (rank: number, init: LoraXsConfig['init']): AdapterConfig => ({
  type: 'lora-xs',
  rank,
  rankPattern: { fc3: Math.min(rank, kClasses) },
  targets: [...kLayers],
  init,
});

/** Share of right answers on a task. */
export async function accuracy(network: Mlp, { images, labels, rows }: Task): Promise<number> {
  const [guesses, truth] = await scope(async () => Promise.all([noGrad(() => argmax(network.forward(images), -1)).data(), labels.data()]));
  let right = 0;
  for (let i = 0; i < rows; i++) right += Number(guesses[i] === truth[i]);
  return right / rows;
}

/** Loss before each of `steps` full-batch steps of adapting a network to a task; `atEnd` sees the network with its adapter. */
export async function curve(
  network: Mlp,
  task: Task,
  variant: Variant,
  steps: number,
  seed: number,
  atEnd?: () => Promise<void>,
): Promise<number[]> {
  const { adapter, learningRate, groups, data = false } = variant;
  const set = await attach(network, adapter, { seed, ...(data ? { data: calibration(network, task) } : {}) });
  const optimizer = new AdamW(groups?.(set) ?? [{ parameters: set.parameters() }], { learningRate, weightDecay: 0 });
  const losses = Array.from({ length: steps }, () => step(optimizer, () => logitsCrossEntropy(network.forward(task.images), task.labels)));
  await atEnd?.();
  optimizer.dispose();
  set.dispose();
  return losses;
}

/** The losses of full fine-tuning: all parameters of a network that knows the old task are trained on the fresh one. */
export function fullCurve(seed: number, { old, fresh }: Tasks, learningRate: number, steps = 100): number[] {
  const network = pretrained(seed, old);
  network.unfreeze();
  const optimizer = new AdamW(network.trainableParameters(), { learningRate, weightDecay: 0 });
  const losses = Array.from({ length: steps }, () =>
    step(optimizer, () => logitsCrossEntropy(network.forward(fresh.images), fresh.labels)),
  );
  optimizer.dispose();
  network.dispose();
  return losses;
}

/** The mean of several curves. */
export const meanCurve = (curves: readonly (readonly number[])[]): number[] =>
  Array.from({ length: curves[0]?.length ?? 0 }, (_, i) => curves.reduce((total, run) => total + (run[i] ?? 0), 0) / curves.length);
