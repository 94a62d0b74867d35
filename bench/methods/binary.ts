// Bi-AdaptFormer on the DIGITS-VIT experiment: how much accuracy is left with so many bits a weight, and what the same bytes buy in f32.

import type { BinaryBits } from '#dist/adapters/binary-config.js';
import { attach } from '#dist/adapters/index.js';
import { adaptVit, disposeDigitsTasks, evaluateVit, freshHead, pretrainedVit, readDigitsTasks } from '../../test/helpers/digits-vit.js';
import { type Report, rounded } from '../harness.js';

const kWidth = 48;
const kBlocks = 3;
const kSteps = 400;

interface Variant {
  readonly bits: BinaryBits;
  readonly dim: number;
  readonly scale: number;
}

/** The rows of the table with the accuracy of a prototype; the first is a head alone. */
const rows: readonly (readonly [variant: Variant | undefined, prototype: number])[] = [
  [undefined, 58.6],
  [{ bits: 32, dim: 8, scale: 10 }, 71.2],
  [{ bits: 4, dim: 8, scale: 10 }, 72.1],
  [{ bits: 2, dim: 8, scale: 10 }, 70.2],
  [{ bits: 1, dim: 8, scale: 10 }, 66.1],
  [{ bits: 1, dim: 32, scale: 10 }, 73.1],
  [{ bits: 32, dim: 1, scale: 10 }, 61.1],
  [{ bits: 32, dim: 32, scale: 10 }, 76.2],
  [{ bits: 1, dim: 32, scale: 1 }, 69.7],
  [{ bits: 32, dim: 1, scale: 1 }, 61.4],
];

const nameOf = (variant: Variant | undefined): string =>
  variant === undefined ? 'linear probe' : `${variant.bits === 32 ? 'f32' : `${variant.bits} bit`}, h ${variant.dim}, s ${variant.scale}`;

/** Bytes of the adapters as they are stored. */
const bytesOf = ({ bits, dim }: Variant): number => kBlocks * 2 * ((kWidth * dim * bits) / 8 + (bits === 32 ? 0 : 8));

/** Test accuracies in percent, one list a row. */
async function accuracies(seeds: readonly number[], folder: string): Promise<number[][]> {
  const found: number[][] = rows.map(() => []);
  for (const seed of seeds) {
    const tasks = readDigitsTasks(folder, seed);
    const network = pretrainedVit(seed, tasks.old);
    for (const [i, [variant]] of rows.entries()) {
      const set = variant && (await attach(network, { type: 'binary', ...variant }, { seed }));
      const head = freshHead(network, seed);
      const parameters = [...(set?.parameters() ?? []), ...head.trainableParameters()];
      adaptVit(network, tasks.few, { parameters, steps: kSteps, learningRate: 5e-3, weightDecay: 1e-4, seed });
      found[i]?.push(100 * evaluateVit(network, tasks.rest).accuracy);
      set?.dispose();
    }
    network.dispose();
    disposeDigitsTasks(tasks);
  }
  return found;
}

const meanOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Prints the table and what the paper claims of it. */
export async function runBinary(seeds: readonly number[], folder: string, report: Report): Promise<object> {
  const found = await accuracies(seeds, folder);
  const means = new Map(rows.map(([variant], i) => [nameOf(variant), meanOf(found[i] ?? [])]));
  const mean = (variant: Variant | undefined): number => means.get(nameOf(variant)) as number;
  const at = (bits: BinaryBits, dim: number): number => mean({ bits, dim, scale: 10 });
  const adapters = rows.flatMap(([variant]) => variant ?? []);
  const claims = [
    { claim: '1 bit with h 32 is 6 points and more above f32 with h 1, which has the same bytes', holds: at(1, 32) >= at(32, 1) + 6 },
    { claim: '1 bit with h 32 is at most 2 points below f32 with h 8', holds: at(1, 32) >= at(32, 8) - 2 },
    { claim: '4 bits are at most 3 points below f32 at h 8', holds: at(4, 8) >= at(32, 8) - 3 },
    { claim: '2 bits are at most 4 points below f32 at h 8', holds: at(2, 8) >= at(32, 8) - 4 },
    { claim: 'every adapter is above the linear probe', holds: adapters.every((variant) => mean(variant) > mean(undefined)) },
  ];
  const table = rows.map(([variant, prototype], i) => ({
    adapter: nameOf(variant),
    bytes: variant === undefined ? 0 : bytesOf(variant),
    accuracy: rounded(mean(variant), 1),
    lowest: rounded(Math.min(...(found[i] ?? [])), 1),
    highest: rounded(Math.max(...(found[i] ?? [])), 1),
    prototype,
  }));
  report.line(`binary adapters, test accuracy in %, mean of seeds ${seeds.join()}; ${kSteps} steps`);
  report.table(table);
  for (const { claim, holds } of claims) report.line(`${holds ? 'holds' : 'FAILS'}: ${claim}`);
  return { table, claims };
}
