// The DIGITS-MLP experiment: an MLP that knows odd digits learns even ones through adapters on all its layers. Means over seeds are compared with published ones.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { type AdapterSet, attach, loraPlusGroups } from '#dist/adapters/index.js';
import { Linear, Module } from '#dist/nn/index.js';
import { tensor } from '#dist/ops/create.js';
import { relu } from '#dist/ops/elementwise.js';
import { indexSelect } from '#dist/ops/index-ops.js';
import { logitsCrossEntropy } from '#dist/ops/loss.js';
import { AdamW } from '#dist/optim/index.js';
import { scope } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';
import { dataFolder } from '../helpers/folders.js';

const kSeeds = [1, 2];
const kPixels = 64;
const kWidth = 256;
const kClasses = 5;
const kTrainRows = 600;

class Mlp extends Module {
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

interface Task {
  readonly images: Tensor;
  readonly labels: Tensor;
  readonly rows: number;
}

/** Odd digits, and the first even ones; the class is half the digit. */
function readTasks(folder: string): { old: Task; fresh: Task } {
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
  return {
    old: taskOf(rows.filter(([digit = 0]) => digit % 2 === 1)),
    fresh: taskOf(rows.filter(([digit = 0]) => digit % 2 === 0).slice(0, kTrainRows)),
  };
}

function step(optimizer: AdamW, loss: () => Tensor): number {
  return scope(() => {
    const value = loss();
    value.backward();
    optimizer.step();
    optimizer.zeroGrad();
    return value.dataSync()[0] as number;
  });
}

function pretrained(seed: number, { images, labels, rows }: Task): Mlp {
  const network = new Mlp(seed);
  const optimizer = new AdamW(network.trainableParameters(), { learningRate: 1e-3, weightDecay: 0 });
  let state = seed * 7919;
  const random = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % rows;
  };
  for (let i = 0; i < 300; i++) {
    const batch = Array.from({ length: 128 }, random);
    step(optimizer, () => {
      const index = tensor(batch, { dtype: 'i64' });
      return logitsCrossEntropy(network.forward(indexSelect(images, 0, index)), indexSelect(labels, 0, index));
    });
  }
  optimizer.dispose();
  network.freeze();
  return network;
}

interface Variant {
  readonly rank: number;
  readonly alpha: number;
  readonly rsLora?: boolean;
  readonly learningRate: number;
  readonly ratio?: number;
}

/** Loss at every step of adapting a network to the fresh task; the last layer has 5 outputs and so a rank of at most 5. */
async function curve(network: Mlp, { images, labels }: Task, variant: Variant, steps: number, seed: number): Promise<number[]> {
  const { rank, alpha, rsLora = false, learningRate, ratio } = variant;
  const last = Math.min(rank, kClasses);
  const set: AdapterSet = await attach(
    network,
    {
      type: 'lora',
      rank,
      alpha,
      rsLora,
      rankPattern: { fc3: last },
      alphaPattern: alpha === rank ? { fc3: last } : {},
      targets: ['fc1', 'fc2', 'fc3'],
    },
    { seed },
  );
  const groups = ratio === undefined ? [{ parameters: set.parameters() }] : loraPlusGroups(set, { learningRate, ratio });
  const optimizer = new AdamW(groups, { learningRate, weightDecay: 0 });
  const losses = Array.from({ length: steps }, () => step(optimizer, () => logitsCrossEntropy(network.forward(images), labels)));
  optimizer.dispose();
  set.dispose();
  return losses;
}

test.serial('LoRA, LoRA+ and rsLoRA learn as fast as published', async (t) => {
  const folder = dataFolder(t, 'digits');
  if (folder === undefined) return;
  const { old, fresh } = readTasks(folder);
  const networks = kSeeds.map((seed) => pretrained(seed, old));
  const mean = async (variant: Variant, steps: number): Promise<number[]> => {
    const runs = await Promise.all(networks.map((network, i) => curve(network, fresh, variant, steps, i + 1)));
    return Array.from({ length: steps }, (_, i) => runs.reduce((total, run) => total + (run[i] ?? 0), 0) / runs.length);
  };
  const same = { learningRate: 1e-3 } as const;
  const lora8 = await mean({ rank: 8, alpha: 8, ...same }, 100);
  const lora4 = await mean({ rank: 4, alpha: 4, ...same }, 100);
  const plus = await mean({ rank: 8, alpha: 8, ratio: 16, ...same }, 100);
  const at = (curveOf: readonly number[]): number[] => [10, 25, 50, 99].map((i) => curveOf[i] ?? Number.NaN);
  t.log(
    'LoRA r 8',
    at(lora8)
      .map((x) => x.toFixed(3))
      .join(' '),
  );
  t.log(
    'LoRA r 4',
    at(lora4)
      .map((x) => x.toFixed(3))
      .join(' '),
  );
  t.log(
    'LoRA+ r 8',
    at(plus)
      .map((x) => x.toFixed(4))
      .join(' '),
  );
  const published = [3.58, 2.59, 1.0, 0.16];
  for (const [i, value] of at(lora8).entries()) {
    t.true(Math.abs(value / (published[i] ?? 1) - 1) < 0.5, `LoRA: ${value} beside ${published[i]}`);
    t.true(value < (at(lora4)[i] ?? 0), 'rank 8 beats rank 4');
  }
  t.true((lora8[99] ?? 1) <= 0.25);
  t.true((plus[25] ?? 1) < (lora8[50] ?? 0), 'LoRA+ is twice as fast');

  const half = { alpha: 8, learningRate: 5e-4 } as const;
  const [plain, stable] = [[] as number[], [] as number[]];
  for (const rank of [4, 16, 64]) {
    plain.push((await mean({ rank, ...half }, 51))[50] ?? Number.NaN);
    stable.push((await mean({ rank, ...half, rsLora: true }, 51))[50] ?? Number.NaN);
  }
  t.log(
    'alpha / rank at step 50',
    plain.map((x) => x.toFixed(2)).join(' '),
    'alpha / sqrt(rank)',
    stable.map((x) => x.toFixed(2)).join(' '),
  );
  t.true(Math.max(...plain) / Math.min(...plain) < 1.05, 'plain scaling gains nothing from rank');
  t.true((stable[1] ?? 1) <= 0.7 * (stable[0] ?? 0) && (stable[2] ?? 1) <= 0.7 * (stable[1] ?? 0), 'rsLoRA gains at each rank');
  for (const task of [old, fresh]) for (const x of [task.images, task.labels]) x.dispose();
  for (const network of networks) network.dispose();
});
