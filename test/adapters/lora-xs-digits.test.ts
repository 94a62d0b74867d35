// LoRA-XS and LoRA-SB on the DIGITS-MLP experiment: the published orderings.
import test, { type ExecutionContext } from 'ava';
import { type AdapterConfig, attach } from '#dist/adapters/index.js';
import { logitsCrossEntropy } from '#dist/ops/loss.js';
import { fill, narrow } from '#dist/ops/shape.js';
import { AdamW } from '#dist/optim/index.js';
import { noGrad } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';
import { accuracyOf, disposeTasks, kClasses, lossesOf, type Mlp, pretrained, readTasks, type Task } from '../helpers/digits.js';
import { dataFolder } from '../helpers/folders.js';

const kSeeds = [1, 2, 3];
const kEstimateRows = 128;
const kSteps = 100;

interface Result {
  readonly at25: number;
  readonly at99: number;
  readonly accuracy: number;
  readonly trained: number;
}

type Kind = 'lora' | 'xs' | 'sb' | 'sb from zero';

const first = (rows: Tensor): Tensor => narrow(rows, 0, 0, kEstimateRows);

interface Trial {
  readonly network: Mlp;
  readonly fresh: Task;
  readonly held: Task;
  readonly seed: number;
}

async function run({ network, fresh, held, seed }: Trial, kind: Kind, rank: number, learningRate: number): Promise<Result> {
  const common = { rank, rankPattern: { fc3: Math.min(rank, kClasses) }, targets: ['fc1', 'fc2', 'fc3'] };
  const starts = kind.startsWith('sb');
  const config: AdapterConfig =
    kind === 'lora'
      ? { type: 'lora', ...common, alpha: rank, alphaPattern: common.rankPattern }
      : { type: 'lora-xs', ...common, init: starts ? { type: 'lora-sb', eta: learningRate } : 'svd' };
  const data = {
    batches: [0],
    forward: () => network.forward(first(fresh.images)),
    loss: () => logitsCrossEntropy(network.forward(first(fresh.images)), first(fresh.labels)),
  };
  const set = await attach(network, config, { seed, ...(starts ? { data } : {}) });
  const parameters = set.parameters();
  if (kind === 'sb from zero') noGrad(() => parameters.forEach((latent) => fill(latent, 0)));
  const optimizer = new AdamW(parameters, { learningRate, weightDecay: 0 });
  // Of the ablation only the first steps are told.
  const losses = lossesOf(network, fresh, optimizer, kind === 'sb from zero' ? 26 : kSteps);
  const result = {
    at25: losses[25] as number,
    at99: losses[99] ?? Number.NaN,
    accuracy: accuracyOf(network, held),
    trained: parameters.reduce((sum, { size }) => sum + size, 0),
  };
  optimizer.dispose();
  set.dispose();
  return result;
}

test.serial(
  'LoRA-SB is ahead of LoRA-XS, of its subspace alone, and of LoRA with 52 times as many numbers',
  async (t: ExecutionContext) => {
    const folder = dataFolder(t, 'digits');
    if (folder === undefined) return;
    const trials = kSeeds.map((seed) => {
      const tasks = readTasks(folder, seed);
      return { ...tasks, seed, network: pretrained(seed, tasks.old) };
    });
    const mean = async (kind: Kind, rank: number, learningRate: number): Promise<Result> => {
      const runs = await Promise.all(trials.map((trial) => run(trial, kind, rank, learningRate)));
      const of = (key: keyof Result): number => runs.reduce((sum, each) => sum + each[key], 0) / runs.length;
      const found = { at25: of('at25'), at99: of('at99'), accuracy: of('accuracy'), trained: of('trained') };
      t.log(
        `${kind} rank ${rank} rate ${learningRate}: ${found.at25.toFixed(3)} ${found.at99.toFixed(4)} ${found.accuracy.toFixed(3)} ${found.trained}`,
      );
      return found;
    };
    const lora = await mean('lora', 8, 1e-3);
    const gains: number[] = [];
    for (const rank of [8, 16]) {
      for (const rate of [1e-2, 3e-2]) {
        const where = `rank ${rank}, rate ${rate}`;
        const [sb, xs, zero] = [await mean('sb', rank, rate), await mean('xs', rank, rate), await mean('sb from zero', rank, rate)];
        t.true(sb.at25 < xs.at25 && sb.at99 < xs.at99, where);
        gains.push(sb.accuracy - xs.accuracy);
        t.true(sb.at25 < 0.7 * zero.at25, where);
        t.is(sb.trained, 2 * rank ** 2 + kClasses ** 2);
        if (rank !== 8 || rate !== 3e-2) continue;
        t.true(sb.at99 < lora.at99 && sb.accuracy > lora.accuracy, where);
        t.is(Math.round(lora.trained / sb.trained), 52);
      }
    }
    t.true(Math.min(...gains) >= 0 && gains.reduce((sum, gain) => sum + gain, 0) / gains.length >= 0.01, `accuracy gained: ${gains}`);
    for (const { old, fresh, held, network } of trials) {
      disposeTasks(old, fresh, held);
      network.dispose();
    }
  },
);
