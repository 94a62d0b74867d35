// LoRA-XS and LoRA-SB on the DIGITS-MLP experiment: the published orderings. Even digits are shuffled, so that the rows of the estimate are of many hands.
import test from 'ava';
import type { AdapterConfig, AdapterSet, LoraPlusGroup } from '#dist/adapters/index.js';
import { fill } from '#dist/ops/shape.js';
import { noGrad } from '#dist/scope.js';
import {
  accuracy,
  curve,
  disposeTasks,
  kClasses,
  latentConfig,
  loraConfig,
  type Mlp,
  pretrained,
  readTasks,
  type Tasks,
} from '../helpers/digits.js';
import { dataFolder } from '../helpers/folders.js';

const kSeeds = [1, 2, 3];

interface Result {
  /** Losses at steps 25 and 99. */
  readonly early: number;
  readonly late: number;
  readonly accuracy: number;
  readonly trained: number;
}

type Kind = 'lora' | 'xs' | 'sb' | 'sb from zero';

interface Trial {
  readonly network: Mlp;
  readonly tasks: Tasks;
  readonly seed: number;
}

function configOf(kind: Kind, rank: number, learningRate: number): AdapterConfig {
  if (kind === 'lora') return loraConfig(rank, rank);
  return latentConfig(rank, kind === 'xs' ? 'svd' : { type: 'lora-sb', eta: learningRate });
}

async function run({ network, tasks, seed }: Trial, kind: Kind, rank: number, learningRate: number): Promise<Result> {
  let trained = 0;
  let right = 0;
  const groups = (set: AdapterSet): LoraPlusGroup[] => {
    const parameters = set.parameters();
    trained = parameters.reduce((sum, { size }) => sum + size, 0);
    if (kind === 'sb from zero') noGrad(() => parameters.forEach((latent) => void fill(latent, 0)));
    return [{ name: 'a', parameters, learningRate, weightDecay: 0 }];
  };
  const variant = { adapter: configOf(kind, rank, learningRate), learningRate, groups, data: kind.startsWith('sb') };
  // Of the subspace without its start only the first steps are told.
  const steps = kind === 'sb from zero' ? 26 : 100;
  const losses = await curve(network, tasks.fresh, variant, steps, seed, async () => {
    right = await accuracy(network, tasks.held);
  });
  return { early: losses[25] as number, late: losses[99] ?? Number.NaN, accuracy: right, trained };
}

test.serial('LoRA-SB is ahead of LoRA-XS, of its subspace alone, and of LoRA with 52 times as many numbers', async (t) => {
  const folder = dataFolder(t, 'digits');
  if (folder === undefined) return;
  const trials = kSeeds.map((seed) => {
    const tasks = readTasks(folder, seed);
    return { network: pretrained(seed, tasks.old), tasks, seed };
  });
  const mean = async (kind: Kind, rank: number, learningRate: number): Promise<Result> => {
    const runs: Result[] = [];
    for (const trial of trials) runs.push(await run(trial, kind, rank, learningRate));
    const of = (key: keyof Result): number => runs.reduce((sum, each) => sum + each[key], 0) / runs.length;
    const found = { early: of('early'), late: of('late'), accuracy: of('accuracy'), trained: of('trained') };
    t.log(`${kind}, rank ${rank}, rate ${learningRate}: ${found.early.toFixed(3)} ${found.late.toFixed(4)} ${found.accuracy.toFixed(3)}`);
    return found;
  };
  const lora = await mean('lora', 8, 1e-3);
  const gains: number[] = [];
  for (const rank of [8, 16]) {
    for (const rate of [1e-2, 3e-2]) {
      const where = `rank ${rank}, rate ${rate}`;
      const [sb, xs, zero] = [await mean('sb', rank, rate), await mean('xs', rank, rate), await mean('sb from zero', rank, rate)];
      t.true(sb.early < xs.early && sb.late < xs.late, where);
      t.true(sb.early < 0.7 * zero.early, where);
      t.is(sb.trained, 2 * rank ** 2 + kClasses ** 2);
      gains.push(sb.accuracy - xs.accuracy);
      if (rank !== 8 || rate !== 3e-2) continue;
      t.true(sb.late < lora.late && sb.accuracy > lora.accuracy, where);
      t.is(Math.round(lora.trained / sb.trained), 52);
    }
  }
  t.true(Math.min(...gains) >= 0, `accuracy: ${gains}`);
  t.true(gains.reduce((sum, gain) => sum + gain, 0) / gains.length >= 0.01, `accuracy: ${gains}`);
  for (const { network, tasks } of trials) {
    disposeTasks(tasks);
    network.dispose();
  }
});
