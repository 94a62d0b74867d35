// How fast adapters learn on the DIGITS-MLP experiment, method by method, beside reference means. Tables hold the training loss before steps 10, 25, 50 and 99.
import type { AdapterConfig } from '#dist/adapters/index.js';
import { loraPlusGroups } from '#dist/adapters/index.js';
import {
  accuracy,
  curve,
  disposeTasks,
  fullCurve,
  latentConfig,
  loraConfig,
  meanCurve,
  pretrained,
  readTasks,
  type Variant,
} from '../../test/helpers/digits.js';
import { type Report, rounded } from '../harness.js';

const kColumns = [10, 25, 50, 99] as const;

/** One line of a table: a variant by name, and the means of the reference implementation. */
interface Line {
  readonly name: string;
  readonly losses: readonly number[];
  readonly reference?: readonly number[];
}

interface Claim {
  readonly claim: string;
  readonly holds: boolean;
}

export interface Experiment {
  readonly name: string;
  readonly lines: readonly Line[];
  readonly claims: readonly Claim[];
}

/** The mean losses over the seeds; `accuracyOf` such a mean, on held-out rows. */
type MeanOf = ((variant: Variant) => Promise<number[]>) & { readonly accuracyOf: (losses: readonly number[]) => number };
const at = (losses: readonly number[], index: number): number => losses[index] ?? Number.NaN;
const below = (a: readonly number[], b: readonly number[]): boolean => kColumns.every((column) => at(a, column) < at(b, column));
const withInit = (rank: number, init: unknown, options: object = {}, alpha = rank, last?: number): AdapterConfig =>
  loraConfig(rank, alpha, { init, ...options }, last);

async function pissa(mean: MeanOf): Promise<Experiment> {
  const lines: Line[] = [];
  const claims: Claim[] = [];
  const reference: Readonly<Record<string, readonly [number[], number[]]>> = {
    '8 0.001': [
      [1.88, 0.93, 0.43, 0.0735],
      [3.58, 2.59, 1.0, 0.16],
    ],
    '4 0.001': [
      [2.28, 1.26, 0.69, 0.26],
      [3.73, 3.18, 1.73, 0.43],
    ],
  };
  for (const [rank, learningRate] of [
    [8, 1e-3],
    [4, 1e-3],
    [8, 5e-4],
  ] as const) {
    const [ours = [], plain = []] = reference[`${rank} ${learningRate}`] ?? [];
    const started = await mean({ adapter: withInit(rank, 'pissa'), learningRate });
    const lora = await mean({ adapter: loraConfig(rank, rank), learningRate });
    const title = `r ${rank}, rate ${learningRate}`;
    lines.push({ name: `PiSSA ${title}`, losses: started, reference: ours }, { name: `LoRA ${title}`, losses: lora, reference: plain });
    claims.push({ claim: `${title}: PiSSA at step 25 is not above LoRA at step 50`, holds: at(started, 25) <= at(lora, 50) });
    claims.push({ claim: `${title}: PiSSA is below LoRA at every column`, holds: below(started, lora) });
  }
  return { name: 'PiSSA', lines, claims };
}

async function loraGa(mean: MeanOf, full: readonly number[]): Promise<Experiment> {
  const learningRate = 1e-3;
  const run = (init: unknown): Promise<number[]> =>
    mean({ adapter: withInit(4, init, { rsLora: true }, 16, 2), learningRate, data: init !== true });
  const lora = await run(true);
  const ga16 = await run({ type: 'lora-ga', stableGamma: 16 });
  const ga64 = await run({ type: 'lora-ga', stableGamma: 64 });
  const peft = await run({ type: 'lora-ga', stableGamma: 16, mode: 'peft' });
  return {
    name: 'LoRA-GA, r 4, alpha 16, rsLoRA',
    lines: [
      { name: 'full fine-tuning', losses: full, reference: [1.48, 0.431, 0.0704, 0.0124] },
      { name: 'LoRA', losses: lora, reference: [2.86, 1.02, 0.205, 0.0323] },
      { name: 'LoRA-GA gamma 16', losses: ga16, reference: [0.71, 0.127, 0.032, 0.0081] },
      { name: 'LoRA-GA gamma 64', losses: ga64, reference: [1.59, 0.384, 0.069, 0.0144] },
      { name: 'LoRA-GA as PEFT', losses: peft, reference: [0.8, 0.173, 0.046, 0.0113] },
    ],
    claims: [
      {
        claim: 'gamma 64 is within 30 % of full fine-tuning at every column',
        holds: kColumns.every((column) => Math.abs(at(ga64, column) / at(full, column) - 1) <= 0.3),
      },
      { claim: 'gamma 16 at step 10 is below LoRA at step 25', holds: at(ga16, 10) < at(lora, 25) },
      { claim: 'gamma 16 at step 25 is below LoRA at step 50', holds: at(ga16, 25) < at(lora, 50) },
    ],
  };
}

async function corda(mean: MeanOf): Promise<Experiment> {
  const learningRate = 1e-3;
  const ipm = { type: 'corda', method: 'ipm' };
  const lora = await mean({ adapter: loraConfig(8, 8), learningRate });
  const principal = await mean({ adapter: withInit(8, 'pissa'), learningRate });
  const ipm8 = await mean({ adapter: withInit(8, ipm), learningRate, data: true });
  const ipm4 = await mean({ adapter: withInit(4, ipm), learningRate, data: true });
  return {
    name: 'CorDA, IPM',
    lines: [
      { name: 'CorDA IPM r 8', losses: ipm8, reference: [0.56, 0.088, 0.008, 0.0012] },
      { name: 'CorDA IPM r 4', losses: ipm4, reference: [0.78, 0.31, 0.035, 0.0042] },
      { name: 'PiSSA r 8', losses: principal, reference: [1.88, 0.93, 0.43, 0.0735] },
      { name: 'LoRA r 8', losses: lora, reference: [3.58, 2.59, 1.0, 0.16] },
    ],
    claims: [{ claim: 'IPM < PiSSA < LoRA at every column', holds: below(ipm8, principal) && below(principal, lora) }],
  };
}

async function eva(mean: MeanOf): Promise<Experiment> {
  const learningRate = 1e-3;
  const lines: Line[] = [];
  const claims: Claim[] = [];
  const reference = {
    8: [
      [2.94, 1.64, 0.54, 0.085],
      [3.58, 2.59, 1.0, 0.16],
    ],
    4: [
      [3.2, 2.15, 0.89, 0.18],
      [3.73, 3.18, 1.73, 0.43],
    ],
  } as const;
  for (const rank of [8, 4] as const) {
    const started = await mean({ adapter: withInit(rank, { type: 'eva', rho: 1 }), learningRate, data: true });
    const lora = await mean({ adapter: loraConfig(rank, rank), learningRate });
    lines.push({ name: `EVA r ${rank}`, losses: started, reference: reference[rank][0] });
    lines.push({ name: `LoRA r ${rank}`, losses: lora, reference: reference[rank][1] });
    claims.push({ claim: `r ${rank}: EVA is below LoRA at every column`, holds: below(started, lora) });
    claims.push({ claim: `r ${rank}: EVA ends at most at 0.65 of LoRA`, holds: at(started, 99) <= 0.65 * at(lora, 99) });
  }
  return { name: 'EVA, rho 1', lines, claims };
}

async function loraSb(mean: MeanOf): Promise<Experiment> {
  const lines: Line[] = [];
  const claims: Claim[] = [];
  const reference: Readonly<Record<string, readonly number[]>> = {
    'SB 8 0.01': [Number.NaN, 0.735, Number.NaN, 0.179],
    'SB 8 0.03': [Number.NaN, 0.126, Number.NaN, 0.033],
    'XS 8 0.01': [Number.NaN, 0.894, Number.NaN, 0.252],
    'XS 8 0.03': [Number.NaN, 0.476, Number.NaN, 0.104],
    'SB 16 0.01': [Number.NaN, 0.456, Number.NaN, 0.05],
    'SB 16 0.03': [Number.NaN, 0.039, Number.NaN, 0.0023],
    'XS 16 0.01': [Number.NaN, 0.57, Number.NaN, 0.072],
    'XS 16 0.03': [Number.NaN, 0.158, Number.NaN, 0.0068],
  };
  const line = (name: string, losses: readonly number[]): Line => ({
    name,
    losses,
    ...(reference[name] && { reference: reference[name] }),
  });
  for (const rank of [8, 16]) {
    for (const learningRate of [1e-2, 3e-2]) {
      const sb = await mean({ adapter: latentConfig(rank, { type: 'lora-sb', eta: learningRate }), learningRate, data: true });
      const xs = await mean({ adapter: latentConfig(rank, 'svd'), learningRate });
      lines.push(line(`SB ${rank} ${learningRate}`, sb), line(`XS ${rank} ${learningRate}`, xs));
      claims.push({
        claim: `r ${rank}, rate ${learningRate}: SB is below XS at steps 25 and 99`,
        holds: at(sb, 25) < at(xs, 25) && at(sb, 99) < at(xs, 99),
      });
      const [better, worse] = [mean.accuracyOf(sb), mean.accuracyOf(xs)];
      claims.push({
        claim: `r ${rank}, rate ${learningRate}: SB is at least a point more accurate (${rounded(better, 3)}, ${rounded(worse, 3)})`,
        holds: better >= worse + 0.01,
      });
    }
  }
  return { name: 'LoRA-SB against LoRA-XS', lines, claims };
}

async function loraPlus(mean: MeanOf): Promise<Experiment> {
  const learningRate = 1e-3;
  const lora = await mean({ adapter: loraConfig(8, 8), learningRate });
  const plus = await mean({
    adapter: loraConfig(8, 8),
    learningRate,
    groups: (set) => loraPlusGroups(set, { learningRate, ratio: 16 }),
  });
  return {
    name: 'LoRA+',
    lines: [
      { name: 'LoRA+ ratio 16', losses: plus, reference: [1.11, 0.152, 0.017, 0.0019] },
      { name: 'LoRA', losses: lora, reference: [3.58, 2.59, 1.0, 0.16] },
    ],
    claims: [{ claim: 'LoRA+ at step 25 is below LoRA at step 50', holds: at(plus, 25) < at(lora, 50) }],
  };
}

const experiments: Readonly<Record<string, (mean: MeanOf, full: () => number[]) => Promise<Experiment>>> = {
  'lora-plus': loraPlus,
  pissa,
  'lora-ga': (mean, full) => loraGa(mean, full()),
  corda,
  eva,
  'lora-sb': loraSb,
};
export const digitsExperiments = Object.keys(experiments);

/** Runs the experiments of these names; means over the seeds. */
export async function runDigits(names: readonly string[], seeds: readonly number[], folder: string, report: Report): Promise<Experiment[]> {
  const tasks = readTasks(folder);
  const networks = seeds.map((seed) => pretrained(seed, tasks.old));
  const known = new Map<string, Promise<number[]>>();
  const accuracies = new Map<readonly number[], number>();
  const run = async (variant: Variant): Promise<number[]> => {
    const curves: number[][] = [];
    let right = 0;
    for (const [i, network] of networks.entries()) {
      const atEnd = async (): Promise<void> => {
        right += await accuracy(network, tasks.held);
      };
      curves.push(await curve(network, tasks.fresh, variant, 100, seeds[i] ?? 0, atEnd));
    }
    const losses = meanCurve(curves);
    accuracies.set(losses, right / networks.length);
    return losses;
  };
  const mean: MeanOf = Object.assign(
    (variant: Variant) => {
      const key = JSON.stringify([variant, variant.groups === undefined]);
      const found = known.get(key) ?? run(variant);
      known.set(key, found);
      return found;
    },
    { accuracyOf: (losses: readonly number[]) => accuracies.get(losses) ?? Number.NaN },
  );
  const full = (): number[] => meanCurve(seeds.map((seed) => fullCurve(seed, tasks, 1e-3)));
  const done: Experiment[] = [];
  for (const name of names) {
    const experiment = await experiments[name]?.(mean, full);
    if (experiment === undefined) throw new Error(`methods: unknown experiment "${name}"; expected ${digitsExperiments.join(', ')}`);
    print(experiment, report);
    done.push(experiment);
  }
  for (const network of networks) network.dispose();
  disposeTasks(tasks);
  return done;
}

function print({ name, lines, claims }: Experiment, report: Report): void {
  report.line(`\n${name}`);
  report.table(
    lines.map(({ name: line, losses, reference }) => ({
      variant: line,
      ...Object.fromEntries(kColumns.map((column) => [`step ${column}`, rounded(at(losses, column), 4)])),
      reference: reference?.map((value) => (Number.isNaN(value) ? '-' : value)).join(' / ') ?? '',
    })),
  );
  for (const { claim, holds } of claims) report.line(`${holds ? 'holds' : 'FAILS'}  ${claim}`);
}
