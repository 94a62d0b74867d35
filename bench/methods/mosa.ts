// MoSA beside plain adapters on the DIGITS-VIT experiment, long enough that every expert learns. Means over the seeds.
import { type AdapterConfig, attach, type ConsistencyWeights, consistencyLoss } from '#dist/adapters/index.js';
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
import { timeMerged } from './mosa-merged.js';

type Network = ReturnType<typeof pretrainedVit>;

interface Variant {
  readonly experts: number;
  /** Absent: one pass. */
  readonly weights?: ConsistencyWeights;
}

const adapted: Readonly<Record<string, Variant>> = {
  plain: { experts: 1 },
  'plain + KL': { experts: 1, weights: { kl: 1 } },
  'MoSA n 4': { experts: 4 },
  'MoSA n 4 + KL': { experts: 4, weights: { kl: 1 } },
  'MoSA n 4 + KL + deep': { experts: 4, weights: { kl: 1, deep: 0.01 } },
  'MoSA n 2 + KL': { experts: 2, weights: { kl: 1 } },
};
const kProbe = 'linear probe';
const kProbeSteps = 400;
/** Whether the images that are learnt move by up to a pixel, as those before did. */
const kMoves = { still: false, moved: true } as const;
type Moves = keyof typeof kMoves;

interface Result {
  readonly accuracy: number;
  readonly testLoss: number;
  readonly trainLoss: number;
}

/** Loss of a batch of both passes, a mean over rows. */
const bothPasses =
  (network: Network, weights: ConsistencyWeights) =>
  (pixels: Tensor, labels: Tensor): Tensor => {
    const total = consistencyLoss(weights)((hidden) => {
      const logits = network.forward({ pixels }, { training: true, ...(hidden && { hidden }) });
      return { loss: logitsCrossEntropy(logits, labels, { reduction: 'sum' }), logits };
    });
    return mul(total, 1 / labels.size);
  };

function measure(network: Network, { few, rest }: DigitsTasks): Result {
  const [seen, held] = [evaluateVit(network, few), evaluateVit(network, rest)];
  return { accuracy: held.accuracy, testLoss: held.loss, trainLoss: seen.loss };
}

async function learn(network: Network, tasks: DigitsTasks, variant: Variant, moves: Moves, steps: number, seed: number): Promise<Result> {
  const { experts, weights } = variant;
  const config: AdapterConfig = { type: 'mosa', style: 'adaptformer', bottleneckSize: 16, scale: 1, experts };
  const adapter = await attach(network, config, { seed });
  const head = freshHead(network, seed);
  const parameters = [...adapter.parameters(), ...head.trainableParameters()];
  const loss = weights && bothPasses(network, weights);
  adaptVit(network, tasks.few, { parameters, steps, moved: kMoves[moves], seed, ...(loss && { loss }) });
  const result = measure(network, tasks);
  adapter.dispose();
  return result;
}

function probe(network: Network, tasks: DigitsTasks, moves: Moves, seed: number): Result {
  const head = freshHead(network, seed);
  adaptVit(network, tasks.few, { parameters: head.trainableParameters(), steps: kProbeSteps, moved: kMoves[moves], seed });
  return measure(network, tasks);
}

const rowOf = ({ accuracy, testLoss, trainLoss }: Result): Record<string, number> => ({
  'accuracy %': rounded(100 * accuracy, 1),
  'test loss': rounded(testLoss, 3),
  'training loss': rounded(trainLoss, 3),
});

const meanOf = (results: readonly Result[], key: keyof Result): number =>
  results.reduce((sum, result) => sum + result[key], 0) / results.length;

type Results = Readonly<Record<string, readonly Result[]>>;

function claimsOf(results: Results): { claim: string; holds: boolean }[] {
  const value = (name: string, key: keyof Result): number => meanOf(results[name] ?? [], key);
  const [both, alone, plain] = ['MoSA n 4 + KL', 'MoSA n 4', 'plain'];
  return [
    { claim: 'test loss: MoSA + KL is at most 0.9 of the plain adapter', holds: value(both, 'testLoss') <= 0.9 * value(plain, 'testLoss') },
    { claim: 'test loss: MoSA + KL is not above MoSA without KL', holds: value(both, 'testLoss') <= value(alone, 'testLoss') },
    {
      claim: 'accuracy: MoSA + KL is within 4 points of the plain adapter',
      holds: value(both, 'accuracy') >= value(plain, 'accuracy') - 0.04,
    },
    { claim: 'accuracy: MoSA + KL is 10 points above a linear probe', holds: value(both, 'accuracy') >= value(kProbe, 'accuracy') + 0.1 },
    { claim: 'training loss: MoSA + KL is above the plain adapter', holds: value(both, 'trainLoss') > value(plain, 'trainLoss') },
  ];
}

function tableOf(results: Results): Record<string, string | number>[] {
  return Object.entries(results).map(([name, all]) => ({
    variant: name,
    ...rowOf({ accuracy: meanOf(all, 'accuracy'), testLoss: meanOf(all, 'testLoss'), trainLoss: meanOf(all, 'trainLoss') }),
    'accuracy of each seed': all.map(({ accuracy }) => rounded(100 * accuracy, 1)).join(' '),
  }));
}

/** Trains each variant for `steps` on every seed, on images that stand still and that move, and says which of the expected orders hold. */
export async function runMosa(seeds: readonly number[], steps: number, folder: string, report: Report): Promise<object> {
  const results: Record<Moves, Record<string, Result[]>> = { still: {}, moved: {} };
  for (const seed of seeds) {
    const tasks = readDigitsTasks(folder, seed);
    const network = pretrainedVit(seed, tasks.old);
    for (const moves of Object.keys(kMoves) as Moves[]) {
      const note = (name: string, result: Result): void => {
        results[moves][name] = [...(results[moves][name] ?? []), result];
        report.line(`seed ${seed}, ${moves}, ${name}: ${JSON.stringify(rowOf(result))}`);
      };
      note(kProbe, probe(network, tasks, moves, seed));
      for (const [name, variant] of Object.entries(adapted)) note(name, await learn(network, tasks, variant, moves, steps, seed));
    }
    network.dispose();
    disposeDigitsTasks(tasks);
  }
  const said = Object.entries(results).map(([moves, of]) => {
    const [rows, claims] = [tableOf(of), claimsOf(of)];
    report.line(`\nMoSA, ${steps} steps, images ${moves}`);
    report.table(rows);
    for (const { claim, holds } of claims) report.line(`${holds ? 'holds' : 'FAILS'}  ${claim}`);
    return [moves, { rows, claims }] as const;
  });
  return { ...Object.fromEntries(said), merged: await timeMerged(report) };
}
