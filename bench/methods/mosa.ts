// MoSA beside plain adapters on the DIGITS-VIT experiment, long enough that every expert learns. Means over the seeds.
import { type AdapterConfig, attach, consistencyLoss } from '#dist/adapters/index.js';
import { mul } from '#dist/ops/elementwise.js';
import { logitsCrossEntropy } from '#dist/ops/loss.js';
import type { Tensor } from '#dist/tensor.js';
import {
  adaptVit,
  type DigitsTasks,
  disposeDigitsTasks,
  evaluateVit,
  freshHead,
  pretrainedVit,
  readDigitsTasks,
} from '../../test/helpers/digits-vit.js';
import { type Report, rounded } from '../harness.js';

type Network = ReturnType<typeof pretrainedVit>;

interface Variant {
  readonly experts: number;
  readonly kl: boolean;
}

const adapted: Readonly<Record<string, Variant>> = {
  plain: { experts: 1, kl: false },
  'MoSA n 4': { experts: 4, kl: false },
  'MoSA n 4 + KL': { experts: 4, kl: true },
  'plain + KL': { experts: 1, kl: true },
  'MoSA n 2 + KL': { experts: 2, kl: true },
};
const kProbe = 'linear probe';
const kProbeSteps = 400;

interface Result {
  readonly accuracy: number;
  readonly testLoss: number;
  readonly trainLoss: number;
}

/** Loss of a batch of both passes, a mean over rows. */
function bothPasses(forward: () => Tensor, labels: Tensor): Tensor {
  const total = consistencyLoss({ kl: 1 })(() => {
    const logits = forward();
    return { loss: logitsCrossEntropy(logits, labels, { reduction: 'sum' }), logits };
  });
  return mul(total, 1 / labels.size);
}

function measure(network: Network, { few, rest }: DigitsTasks): Result {
  const [seen, held] = [evaluateVit(network, few), evaluateVit(network, rest)];
  return { accuracy: held.accuracy, testLoss: held.loss, trainLoss: seen.loss };
}

async function learn(network: Network, tasks: DigitsTasks, { experts, kl }: Variant, steps: number, seed: number): Promise<Result> {
  const config: AdapterConfig = { type: 'mosa', style: 'adaptformer', bottleneckSize: 16, scale: 1, experts };
  const adapter = await attach(network, config, { seed });
  const head = freshHead(network, seed);
  const parameters = [...adapter.parameters(), ...head.trainableParameters()];
  adaptVit(network, tasks.few, { parameters, steps, moved: true, seed, ...(kl && { loss: bothPasses }) });
  const result = measure(network, tasks);
  adapter.dispose();
  return result;
}

function probe(network: Network, tasks: DigitsTasks, seed: number): Result {
  const head = freshHead(network, seed);
  adaptVit(network, tasks.few, { parameters: head.trainableParameters(), steps: kProbeSteps, moved: true, seed });
  return measure(network, tasks);
}

const rowOf = ({ accuracy, testLoss, trainLoss }: Result): Record<string, number> => ({
  'accuracy %': rounded(100 * accuracy, 1),
  'test loss': rounded(testLoss, 3),
  'training loss': rounded(trainLoss, 3),
});

const meanOf = (results: readonly Result[], key: keyof Result): number =>
  results.reduce((sum, result) => sum + result[key], 0) / results.length;

/** Trains each variant for `steps` on every seed, and says which of the expected orders hold. */
export async function runMosa(seeds: readonly number[], steps: number, folder: string, report: Report): Promise<object> {
  const results: Record<string, Result[]> = {};
  for (const seed of seeds) {
    const tasks = readDigitsTasks(folder, seed);
    const network = pretrainedVit(seed, tasks.old);
    const note = (name: string, result: Result): void => {
      results[name] = [...(results[name] ?? []), result];
      report.line(`seed ${seed}, ${name}: ${JSON.stringify(rowOf(result))}`);
    };
    note(kProbe, probe(network, tasks, seed));
    for (const [name, variant] of Object.entries(adapted)) note(name, await learn(network, tasks, variant, steps, seed));
    network.dispose();
    disposeDigitsTasks(tasks);
  }
  const value = (name: string, key: keyof Result): number => meanOf(results[name] ?? [], key);
  const rows = Object.entries(results).map(([name, all]) => ({
    variant: name,
    ...rowOf({ accuracy: meanOf(all, 'accuracy'), testLoss: meanOf(all, 'testLoss'), trainLoss: meanOf(all, 'trainLoss') }),
  }));
  const [both, alone, plain] = ['MoSA n 4 + KL', 'MoSA n 4', 'plain'];
  const claims = [
    { claim: 'test loss: MoSA + KL is at most 0.9 of the plain adapter', holds: value(both, 'testLoss') <= 0.9 * value(plain, 'testLoss') },
    { claim: 'test loss: MoSA + KL is not above MoSA without KL', holds: value(both, 'testLoss') <= value(alone, 'testLoss') },
    {
      claim: 'accuracy: MoSA + KL is within 4 points of the plain adapter',
      holds: value(both, 'accuracy') >= value(plain, 'accuracy') - 0.04,
    },
    { claim: 'accuracy: MoSA + KL is 10 points above a linear probe', holds: value(both, 'accuracy') >= value(kProbe, 'accuracy') + 0.1 },
    { claim: 'training loss: MoSA + KL is above the plain adapter', holds: value(both, 'trainLoss') > value(plain, 'trainLoss') },
  ];
  report.line(`\nMoSA, ${steps} steps`);
  report.table(rows);
  for (const { claim, holds } of claims) report.line(`${holds ? 'holds' : 'FAILS'}  ${claim}`);
  return { rows, claims };
}
