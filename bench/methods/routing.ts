// What tasks share: Poly and MHR beside plain LoRA on 24 tasks at once, and on new ones with 30 examples each, beside the means of a
// prototype.
import type { AdapterConfig } from '#dist/adapters/index.js';
import {
  average,
  type FewShot,
  fewShot,
  kNewTasks,
  kTrainTasks,
  type Pretraining,
  pretrain,
  readSplitDigits,
} from '../../test/helpers/split-digits.js';
import { type Report, rounded } from '../harness.js';

const kSteps = 3000;
const kFewShotSteps = 300;
const kRank = 4;

interface Method {
  readonly name: string;
  readonly config: AdapterConfig;
  readonly ways: readonly FewShot[];
  /** Pre-training loss, and few-shot accuracies in the order of `ways`. */
  readonly prototype: readonly number[];
}

const poly = (options: object): AdapterConfig =>
  ({ type: 'poly', rank: kRank, tasks: kTrainTasks, skills: 8, gates: 'sigmoid', ...options }) as AdapterConfig;
const routedWays: readonly FewShot[] = ['full', 'z', 'mu', 'none'];

const methods: readonly Method[] = [
  { name: 'LoRA r 4', config: { type: 'lora', rank: kRank, alpha: 1 }, ways: ['full'], prototype: [0.676, 78.5] },
  { name: 'LoRA r 32', config: { type: 'lora', rank: 32, alpha: 8 }, ways: ['full'], prototype: [0.676, 78.8] },
  { name: 'Poly', config: poly({}), ways: routedWays, prototype: [0.125, 78.2, 81.6, 76.7] },
  { name: 'MHR h 8', config: poly({ splits: 8 }), ways: routedWays, prototype: [0.09, 82.0, 81.9, 80.1] },
  { name: 'MHR h 16', config: poly({ splits: 16 }), ways: routedWays, prototype: [0.088, 81.3, 81.6, 79.3] },
  { name: 'Poly relaxed', config: poly({ gates: 'relaxed' }), ways: routedWays, prototype: [0.117, 79.3, 79.4, 78.4] },
];

interface Result {
  readonly loss: number;
  readonly accuracy: number;
  readonly shots: Readonly<Partial<Record<FewShot, number>>>;
  readonly trained: Readonly<Partial<Record<FewShot, number>>>;
}

async function runMethod({ config, ways }: Method, seeds: readonly number[], folder: string, steps: number): Promise<Result> {
  const losses: number[] = [];
  const accuracies: number[] = [];
  const shots = Object.fromEntries(ways.map((way) => [way, [] as number[]])) as Record<FewShot, number[]>;
  const trained: Partial<Record<FewShot, number>> = {};
  for (const seed of seeds) {
    const data = readSplitDigits(folder, seed);
    const pretrained: Pretraining = await pretrain(data, config, { seed, steps });
    losses.push(pretrained.loss);
    accuracies.push(pretrained.accuracy);
    for (const way of ways) {
      for (let task = kTrainTasks; task < kTrainTasks + kNewTasks; task++) {
        const result = await fewShot(data, pretrained, way, { task, seed, steps: kFewShotSteps });
        shots[way].push(result.accuracy);
        trained[way] = result.trained;
      }
    }
    pretrained.set.dispose();
    pretrained.network.dispose();
    data.images.dispose();
  }
  const means = Object.fromEntries(ways.map((way) => [way, average(shots[way])]));
  return { loss: average(losses), accuracy: average(accuracies), shots: means, trained };
}

interface Claim {
  readonly claim: string;
  readonly holds: boolean;
}

function claimsOf(results: ReadonlyMap<string, Result>): Claim[] {
  const of = (name: string): Result => results.get(name) as Result;
  const shot = (name: string, way: FewShot): number => of(name).shots[way] ?? Number.NaN;
  const [lora, wide, one, mhr] = ['LoRA r 4', 'LoRA r 32', 'Poly', 'MHR h 8'].map(of) as [Result, Result, Result, Result];
  const few = shot('MHR h 8', 'full');
  return [
    {
      claim: 'loss on 24 tasks: MHR < Poly < LoRA of rank 4 and 32',
      holds: mhr.loss < one.loss && one.loss < Math.min(lora.loss, wide.loss),
    },
    { claim: 'loss on 24 tasks: MHR at most 0.85 of Poly', holds: mhr.loss <= 0.85 * one.loss },
    { claim: 'new tasks: MHR at least 1.5 points above Poly', holds: few >= shot('Poly', 'full') + 1.5 },
    { claim: 'new tasks: MHR at least 1.5 points above LoRA', holds: few >= shot('LoRA r 4', 'full') + 1.5 },
    { claim: 'new tasks: MHR-z at least MHR less 2 points', holds: shot('MHR h 8', 'z') >= few - 2 },
    { claim: 'MHR-z trains H * S numbers a layer', holds: mhr.trained.z === 8 * 8 * 2 },
    { claim: 'new tasks: MHR-mu at least LoRA', holds: shot('MHR h 8', 'mu') >= shot('LoRA r 4', 'full') },
    { claim: 'new tasks: a new router before training is at chance', holds: Math.abs(shot('MHR h 8', 'none') - 50) < 5 },
  ];
}

/** Means over the seeds (and the new tasks); prints whether the published order holds. */
export async function runRouting(seeds: readonly number[], folder: string, report: Report, steps = kSteps): Promise<object> {
  const results = new Map<string, Result>();
  for (const method of methods) results.set(method.name, await runMethod(method, seeds, folder, steps));
  const rows = methods.map(({ name, prototype }) => {
    const { loss, accuracy, shots } = results.get(name) as Result;
    return {
      method: name,
      loss: rounded(loss, 4),
      'accuracy %': rounded(accuracy, 1),
      ...Object.fromEntries(routedWays.map((way) => [`new: ${way} %`, shots[way] === undefined ? '' : rounded(shots[way], 1)])),
      prototype: prototype.join(' / '),
    };
  });
  const claims = claimsOf(results);
  report.line('\nRouting: 24 tasks at once, then 6 new ones with 30 examples each');
  report.table(rows);
  for (const { claim, holds } of claims) report.line(`${holds ? 'holds' : 'FAILS'}  ${claim}`);
  return { rows, claims };
}
