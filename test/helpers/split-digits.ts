// Many tasks on handwritten digits: each splits the ten digits into two groups, which the picture does not tell. A frozen random MLP learns them
// through adapters.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AdapterConfig, type AdapterSet, adapterGroups, attach, type PolyConfig } from 'lorikeet';
import { type ForwardContext, Linear, Module, type TaskId } from 'lorikeet/nn';
import { gelu, indexSelect, mean, mul, reshape, softplus, sub, tensor } from 'lorikeet/ops';
import { AdamW, linearSchedule } from 'lorikeet/optim';
import { savePeftFolder } from '#dist/io/peft.js';
import { copyInto } from '#dist/ops/shape.js';
import { noGrad, scope } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';

const kWidth = 64;
const kGain = 8;
export const kTrainTasks = 24;
export const kNewTasks = 6;
const kShots = 30;

/** 64 → 64 → 64 → 1 with exact GELU; the output is a logit, times 8. */
class SplitMlp extends Module {
  first: Linear;
  second: Linear;
  output: Linear;

  constructor(seed: number) {
    super();
    this.first = new Linear(kWidth, kWidth, { seed: 10 * seed, role: 'mlp.up' });
    this.second = new Linear(kWidth, kWidth, { seed: 10 * seed + 1, role: 'mlp.down' });
    this.output = new Linear(kWidth, 1, { seed: 10 * seed + 2, role: 'head' });
    this.freeze();
  }

  /** Images [B, 64] to logits [B]. */
  forward(images: Tensor, context: ForwardContext): Tensor {
    const hidden = gelu(this.second.forward(gelu(this.first.forward(images, context)), context));
    return reshape(mul(this.output.forward(hidden, context), kGain), [-1]);
  }
}

/** Random whole numbers below a bound, one after the other. */
export function drawsOf(seed: number): (bound: number) => number {
  let state = (seed * 7919 + 12345) >>> 0;
  return (bound) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

function shuffled<T>(items: readonly T[], below: (bound: number) => number): T[] {
  const list = [...items];
  for (let i = list.length - 1; i > 0; i--) {
    const j = below(i + 1);
    [list[i], list[j]] = [list[j] as T, list[i] as T];
  }
  return list;
}

/** The pictures, pixels 0 to 1, and for each task which digits are in its second group. */
export interface SplitDigits {
  /** [rows, 64]. */
  readonly images: Tensor;
  readonly digits: readonly number[];
  /** Those of training first, then the new ones. */
  readonly groups: readonly ReadonlySet<number>[];
}

/** Reads `digits.csv` of a folder, and draws the tasks of a seed: five digits in each group, no split twice. */
export function readSplitDigits(folder: string, seed: number): SplitDigits {
  const rows = readFileSync(join(folder, 'digits.csv'), 'utf8')
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(',').map(Number));
  const below = drawsOf(seed);
  const groups: ReadonlySet<number>[] = [];
  const seen = new Set<string>();
  while (groups.length < kTrainTasks + kNewTasks) {
    const chosen = shuffled([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], below).slice(0, 5).sort();
    // A split and its mirror image are one.
    const name = chosen.includes(0) ? chosen.join() : [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].filter((digit) => !chosen.includes(digit)).join();
    if (seen.has(name)) continue;
    seen.add(name);
    groups.push(new Set(chosen));
  }
  return {
    images: tensor(rows.map((row) => row.slice(1).map((pixel) => pixel / 16))),
    digits: rows.map(([digit = 0]) => digit),
    groups,
  };
}

/** Rows of pictures with the task of each. */
interface Rows {
  readonly rows: readonly number[];
  readonly tasks: readonly number[];
}

const labelsOf = ({ digits, groups }: SplitDigits, { rows, tasks }: Rows): number[] =>
  rows.map((row, i) => (groups[tasks[i] as number]?.has(digits[row] as number) ? 1 : 0));

const imagesOf = ({ images }: SplitDigits, rows: readonly number[]): Tensor => indexSelect(images, 0, tensor([...rows], { dtype: 'i64' }));

/** Mean cross-entropy of the logits; `ids` are the tasks as the adapter knows them. */
function lossOf(network: SplitMlp, data: SplitDigits, given: Rows, ids: readonly TaskId[] | undefined, training = true): Tensor {
  const context = { training, ...(ids === undefined ? {} : { tasks: ids }) };
  const logits = network.forward(imagesOf(data, given.rows), context);
  return mean(sub(softplus(logits), mul(logits, tensor(labelsOf(data, given)))));
}

interface Training {
  readonly network: SplitMlp;
  readonly set: AdapterSet;
  readonly steps: number;
  readonly learningRate: number;
  readonly batch: (step: number) => Rows;
  readonly ids: (rows: Rows) => readonly TaskId[] | undefined;
}

/** Trains the active adapter by AdamW with a linear decay. */
function trainOn(data: SplitDigits, { network, set, steps, learningRate, batch, ids }: Training): void {
  const optimizer = new AdamW(adapterGroups(set, { learningRate }), { weightDecay: 0 });
  const schedule = linearSchedule({ steps });
  for (let step = 0; step < steps; step++) {
    scope(() => {
      const rows = batch(step);
      lossOf(network, data, rows, ids(rows)).backward();
      optimizer.step({ rateFactor: schedule(step) });
      optimizer.zeroGrad();
    });
  }
  optimizer.dispose();
}

/** Share of rows on the right side, in percent. */
function accuracyOf(network: SplitMlp, data: SplitDigits, given: Rows, ids: readonly TaskId[] | undefined): number {
  const context = { training: false, ...(ids === undefined ? {} : { tasks: ids }) };
  const logits = scope(() => [...(noGrad(() => network.forward(imagesOf(data, given.rows), context)).dataSync() as Float32Array)]);
  const labels = labelsOf(data, given);
  return (100 * logits.filter((logit, i) => logit > 0 === (labels[i] === 1)).length) / labels.length;
}

export interface Pretraining {
  readonly network: SplitMlp;
  readonly set: AdapterSet;
  /** Over all pictures and training tasks, as the adapter is left. */
  readonly loss: number;
  readonly accuracy: number;
}

/** Trains an adapter on all training tasks at once, 128 examples a step. */
export async function pretrain(data: SplitDigits, config: AdapterConfig, options: { seed: number; steps: number }): Promise<Pretraining> {
  const { seed, steps } = options;
  const network = new SplitMlp(seed);
  const set = await attach(network, { targets: ['first', 'second'], ...config } as AdapterConfig, { seed });
  const routed = config.type === 'poly';
  const below = drawsOf(seed + 1000);
  trainOn(data, {
    network,
    set,
    steps,
    learningRate: 5e-3,
    batch: () => ({
      rows: Array.from({ length: 128 }, () => below(data.digits.length)),
      tasks: Array.from({ length: 128 }, () => below(kTrainTasks)),
    }),
    ids: ({ tasks }) => (routed ? tasks : undefined),
  });
  const found = Array.from({ length: kTrainTasks }, (_, task) => {
    const all = { rows: data.digits.map((_, row) => row), tasks: data.digits.map(() => task) };
    const ids = routed ? [task] : undefined;
    const loss = scope(() => noGrad(() => lossOf(network, data, all, ids, false)).dataSync()[0] as number);
    return { loss, accuracy: accuracyOf(network, data, all, ids) };
  });
  return { network, set, loss: average(found.map(({ loss }) => loss)), accuracy: average(found.map(({ accuracy }) => accuracy)) };
}

export const average = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0) / values.length;

/** How a pre-trained adapter is adapted to a new task; `none` leaves a new router as it starts. */
export type FewShot = 'full' | 'z' | 'mu' | 'none';

/** Adapts a pre-trained adapter to one new task with 30 examples; returns the accuracy on all other pictures, and how many numbers it trained. */
export async function fewShot(
  data: SplitDigits,
  pretrained: Pretraining,
  how: FewShot,
  options: { task: number; seed: number; steps: number },
): Promise<{ accuracy: number; trained: number }> {
  const { task, seed, steps } = options;
  const { set: before } = pretrained;
  const routed = before.get('default').method.name === 'poly';
  // The same frozen weights: they follow from the seed.
  const own = new SplitMlp(seed);
  const set = routed ? await fromInventory(own, pretrained, how, seed + task) : await again(own, before);
  const order = shuffled(
    data.digits.map((_, row) => row),
    drawsOf(seed * 100 + task),
  );
  const of = (rows: readonly number[]): Rows => ({ rows, tasks: rows.map(() => task) });
  const [shots, rest] = [of(order.slice(0, kShots)), of(order.slice(kShots))];
  const ids = routed ? [0] : undefined;
  if (how !== 'none') trainOn(data, { network: own, set, steps, learningRate: 5e-3, batch: () => shots, ids: () => ids });
  const trained = set.parameters().reduce((total, { size }) => total + size, 0);
  const accuracy = accuracyOf(own, data, rest, ids);
  set.dispose();
  own.dispose();
  return { accuracy, trained };
}

/** A new task on the skills of a pre-trained Poly adapter, by way of its files. */
async function fromInventory(own: SplitMlp, { set, network }: Pretraining, how: FewShot, seed: number): Promise<AdapterSet> {
  const inventory = mkdtempSync(join(tmpdir(), 'lorikeet-inventory-'));
  try {
    const attached = set.get('default');
    await savePeftFolder(inventory, attached, network);
    const { gates } = attached.config as PolyConfig;
    const finetune = how === 'none' ? 'full' : how;
    return await attach(own, { type: 'poly', targets: ['first', 'second'], gates, inventory, finetune }, { seed });
  } finally {
    rmSync(inventory, { recursive: true });
  }
}

/** The same adapter with the values that it has. */
async function again(own: SplitMlp, set: AdapterSet): Promise<AdapterSet> {
  const { method, config } = set.get('default');
  const copy = await attach(own, { ...config, type: method.name } as AdapterConfig);
  const values = set.parameters();
  scope(() => noGrad(() => copy.parameters().forEach((slot, i) => void copyInto(slot, values[i] as Tensor))));
  return copy;
}
