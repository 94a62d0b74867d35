// Hydra beside one of its branches alone, of about as many numbers, and beside a linear probe, on the DIGITS-VIT experiment. Means over the seeds.
import { type AdapterConfig, attach } from '#dist/adapters/index.js';
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

/** Ranks of the parallel and the sequential branch, and the percentages of a prototype at scales 1 and 4. */
interface Variant {
  readonly ranks: readonly [number, number];
  readonly prototype: string;
}

/** Variants that are compared: a branch alone has at least as many numbers as both together. */
const groups: readonly { readonly both: string; readonly variants: Readonly<Record<string, Variant>> }[] = [
  {
    both: 'Hydra 2 + 2',
    variants: {
      'Hydra 2 + 2': { ranks: [2, 2], prototype: '73.7 / 74.6' },
      'parallel 4': { ranks: [4, 0], prototype: '75.0 / 76.2' },
      'sequential 6': { ranks: [0, 6], prototype: '74.8 / 74.4' },
    },
  },
  {
    both: 'Hydra 4 + 4',
    variants: {
      'Hydra 4 + 4': { ranks: [4, 4], prototype: '77.6 / 77.6' },
      'parallel 7': { ranks: [7, 0], prototype: '76.2 / 77.5' },
      'sequential 12': { ranks: [0, 12], prototype: '' },
    },
  },
];
const kScales = [1, 4] as const;
const kProbe = 'linear probe';

interface Result {
  readonly accuracy: number;
  /** Numbers of the adapter. */
  readonly numbers: number;
  /** Accuracy after the adapter was folded into the weights. */
  readonly merged: number;
}

async function learn(
  network: Network,
  tasks: DigitsTasks,
  options: { readonly ranks: readonly [number, number]; readonly scale: number; readonly steps: number; readonly seed: number },
): Promise<Result> {
  const { ranks, scale, steps, seed } = options;
  const config: AdapterConfig = { type: 'hydra', rankParallel: ranks[0], rankSequential: ranks[1], scale };
  const adapter = await attach(network, config, { seed });
  const numbers = adapter.parameters().reduce((sum, { size }) => sum + size, 0);
  const head = freshHead(network, seed);
  adaptVit(network, tasks.few, { parameters: [...adapter.parameters(), ...head.trainableParameters()], steps, seed });
  const { accuracy } = evaluateVit(network, tasks.rest);
  await adapter.merge();
  const { accuracy: merged } = evaluateVit(network, tasks.rest);
  adapter.unmerge();
  adapter.dispose();
  return { accuracy, numbers, merged };
}

function probe(network: Network, tasks: DigitsTasks, steps: number, seed: number): Result {
  const head = freshHead(network, seed);
  adaptVit(network, tasks.few, { parameters: head.trainableParameters(), steps, seed });
  const { accuracy } = evaluateVit(network, tasks.rest);
  return { accuracy, numbers: 0, merged: accuracy };
}

const average = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** The name of a variant at a scale. */
const nameOf = (variant: string, scale: number): string => `${variant}, scale ${scale}`;

/** Trains each variant for `steps` on every seed, and says which of the expected orders hold. */
export async function runHydra(seeds: readonly number[], folder: string, report: Report, steps = 400): Promise<object> {
  const results: Record<string, Result[]> = {};
  const note = (name: string, result: Result): void => {
    results[name] = [...(results[name] ?? []), result];
  };
  for (const seed of seeds) {
    const tasks = readDigitsTasks(folder, seed);
    const network = pretrainedVit(seed, tasks.old);
    note(kProbe, probe(network, tasks, steps, seed));
    for (const scale of kScales)
      for (const { variants } of groups)
        for (const [name, { ranks }] of Object.entries(variants))
          note(nameOf(name, scale), await learn(network, tasks, { ranks, scale, steps, seed }));
    network.dispose();
    disposeDigitsTasks(tasks);
  }
  const accuracies = (name: string): number[] => (results[name] ?? []).map(({ accuracy }) => 100 * accuracy);
  const accuracyOf = (name: string): number => average(accuracies(name));
  const deviation = (name: string): number =>
    Math.sqrt(
      average(accuracies(name).map((accuracy) => (accuracy - accuracyOf(name)) ** 2)) * (seeds.length / Math.max(1, seeds.length - 1)),
    );
  const linear = accuracyOf(kProbe);
  const rows = [
    {
      variant: kProbe,
      numbers: 0,
      'scale 1 %': rounded(linear, 1),
      'scale 4 %': '',
      deviation: rounded(deviation(kProbe), 1),
      prototype: '58.6',
    },
    ...groups.flatMap(({ variants }) =>
      Object.entries(variants).map(([variant, { prototype }]) => ({
        variant,
        numbers: results[nameOf(variant, 1)]?.[0]?.numbers ?? 0,
        'scale 1 %': rounded(accuracyOf(nameOf(variant, 1)), 1),
        'scale 4 %': rounded(accuracyOf(nameOf(variant, 4)), 1),
        deviation: kScales.map((scale) => rounded(deviation(nameOf(variant, scale)), 1)).join(' / '),
        prototype,
      })),
    ),
  ];
  const claims = groups.flatMap(({ both, variants }) =>
    kScales.flatMap((scale) => {
      const alone = Object.keys(variants).filter((name) => name !== both);
      const own = accuracyOf(nameOf(both, scale));
      const best = Math.max(...alone.map((name) => accuracyOf(nameOf(name, scale))));
      return [
        { claim: `${nameOf(both, scale)}: at least 10 points above a linear probe`, holds: own >= linear + 10 },
        { claim: `${nameOf(both, scale)}: at most 3 points below the better of its branches alone`, holds: own >= best - 3 },
        ...alone.map((name) => ({
          claim: `${nameOf(name, scale)}: more than 8 points above a linear probe`,
          holds: accuracyOf(nameOf(name, scale)) > linear + 8,
        })),
      ];
    }),
  );
  claims.push({
    claim: 'merged weights have the accuracy of the adapter, in every run',
    holds: Object.values(results).every((all) => all.every(({ accuracy, merged }) => accuracy === merged)),
  });
  report.line(`\nHydra, ${steps} steps`);
  report.table(rows);
  for (const { claim, holds } of claims) report.line(`${holds ? 'holds' : 'FAILS'}  ${claim}`);
  return { rows, claims };
}
