// Initialisations that look at weights alone, on the linear layers of a model of 1B parameters: time, memory, and how near the rest is to the smallest there is.
// npm run bench -- inits [--layers N] [--rank R] [--spectrum decaying|flat] [--only TEXT] [--threads N] [--json]
import { parseArgs } from 'node:util';
import { attach, type LoraConfig, memory, resetPeakMemory, scope, setThreads, synchronize, type Tensor } from 'lorikeet';
import { qr } from 'lorikeet/linalg';
import { Linear, Module } from 'lorikeet/nn';
import { clone, matmul, mul, normal, tensor, transpose } from 'lorikeet/ops';
import { rounded, type Suite } from './harness.js';

/** [outputs, inputs] of the linear layers of a decoder layer: hidden 2048, intermediate 8192, 8 key heads of 64. */
const kShapes: Readonly<Record<string, readonly [number, number]>> = {
  q_proj: [2048, 2048],
  k_proj: [512, 2048],
  v_proj: [512, 2048],
  o_proj: [2048, 2048],
  gate_proj: [8192, 2048],
  up_proj: [8192, 2048],
  down_proj: [2048, 8192],
};

/** Singular value i of n, the largest 1. `decaying` falls off like those of trained weights, `flat` like those of a square matrix of independent normal numbers. */
const kSpectra: Readonly<Record<string, (i: number, n: number) => number>> = {
  decaying: (i) => (1 + i) ** -0.25,
  flat: (i, n) => 1 - ((0.75 * Math.PI * (i + 0.5)) / n) ** (2 / 3) / 2,
};

interface Variant {
  readonly name: string;
  readonly init: LoraConfig['init'];
  /** Decoder layers at most: what takes a minute a matrix need not run on all. */
  readonly most?: number;
}

const variants: readonly Variant[] = [
  { name: 'pissa_fast', init: 'pissa_fast' },
  { name: 'pissa_niter_4', init: 'pissa_niter_4' },
  { name: 'pissa_niter_16', init: 'pissa_niter_16' },
  { name: 'pissa_fast, rest in nf4', init: { type: 'pissa', niter: 8, oversample: 16, quantize: 'nf4' } },
  { name: 'loftq, randomised', init: { type: 'loftq', niter: 8, oversample: 16 } },
  { name: 'olora', init: 'olora' },
  { name: 'pissa, exact', init: 'pissa', most: 1 },
];

class Decoder extends Module {
  constructor(weights: ReadonlyMap<string, Tensor>) {
    super();
    for (const [name, weight] of weights) {
      const [outputs = 0, inputs = 0] = weight.shape;
      const layer = new Linear(inputs, outputs, { bias: false, init: 'none' });
      layer.assign('weight', clone(weight));
      Object.assign(this, { [name]: layer });
    }
  }
}

/** A weight for every shape, with these singular values and random singular vectors. */
async function makeWeights(spectrum: (i: number, n: number) => number): Promise<Map<string, Tensor>> {
  const found = new Map<string, Tensor>();
  for (const [i, [name, [outputs, inputs]]] of Object.entries(kShapes).entries()) {
    const weight = await scope(async () => {
      const n = Math.min(outputs, inputs);
      const [u, v] = [outputs, inputs].map((rows, side) => qr(normal([rows, n], { seed: 2 * i + side })).q) as [Tensor, Tensor];
      const product = matmul(mul(u, tensor(Array.from({ length: n }, (_, k) => spectrum(k, n)))), transpose(v));
      await synchronize();
      return product;
    });
    found.set(name, weight);
  }
  return found;
}

/** The norm of the rest above that of the best one, as a share of it: what the pair holds tells what is left. */
async function excessOf(a: Tensor, b: Tensor, values: readonly number[]): Promise<number> {
  const squares = (list: readonly number[]): number => list.reduce((sum, value) => sum + value * value, 0);
  const [norms, others] = await Promise.all([rowNorms(a), rowNorms(transpose(b))]);
  const held = norms.map((norm, i) => norm * (others[i] ?? 0));
  const all = squares(values);
  return Math.sqrt((all - squares(held)) / (all - squares(values.slice(0, held.length)))) - 1;
}

async function rowNorms(x: Tensor): Promise<number[]> {
  const values = (await scope(() => clone(x).data())) as Float32Array;
  const width = x.shape[1] ?? 1;
  return Array.from({ length: x.shape[0] ?? 0 }, (_, row) => Math.hypot(...values.subarray(row * width, (row + 1) * width)));
}

export const suite: Suite = {
  description: 'LoRA initialisations that look at weights, on the layers of a model of 1B parameters',
  async run(args, report) {
    const { values } = parseArgs({
      args: [...args],
      options: {
        layers: { type: 'string', default: '16' },
        rank: { type: 'string', default: '16' },
        spectrum: { type: 'string', default: 'decaying' },
        only: { type: 'string', default: '' },
        threads: { type: 'string' },
      },
    });
    if (values.threads !== undefined) setThreads(Number(values.threads));
    const spectrum = kSpectra[values.spectrum];
    if (spectrum === undefined)
      throw new Error(`inits: unknown spectrum "${values.spectrum}"; expected ${Object.keys(kSpectra).join(' or ')}`);
    const [layers, rank] = [Number(values.layers), Number(values.rank)];
    report.line('making the weights');
    const weights = await makeWeights(spectrum);
    const largest = Math.max(...[...weights.values()].map(({ size }) => 4 * size));
    const rows = [];
    for (const variant of variants.filter(({ name }) => name.includes(values.only))) {
      const row = await measured(variant, weights, Math.min(layers, variant.most ?? layers), rank, spectrum);
      report.line(`${row.init}: ${row.seconds} s for ${row.matrices} matrices`);
      rows.push(row);
    }
    report.line(
      `"peak MB" is what the work took beside the weights of a decoder layer and the new ones; the largest weight is ${rounded(largest / 1e6, 0)} MB`,
    );
    report.line(
      '"above best" is the norm of the rest above the smallest that a pair of this rank can leave, as a share of it, for the worst matrix',
    );
    report.table(rows);
    for (const weight of weights.values()) weight.dispose();
    return { rank, spectrum: values.spectrum, rows };
  },
};

/** Attaches to one decoder layer after the other, so that the weights of one are there at a time. */
async function measured(
  { name, init }: Variant,
  weights: ReadonlyMap<string, Tensor>,
  layers: number,
  rank: number,
  spectrum: (i: number, n: number) => number,
) {
  const targets = [...weights.keys()];
  let [ms, peak, excess] = [0, 0, 0];
  for (let layer = 0; layer < layers; layer++) {
    const network = new Decoder(weights);
    await synchronize();
    resetPeakMemory();
    const before = memory().bytes;
    const start = performance.now();
    const set = await attach(network, { type: 'lora', rank, alpha: rank, targets, init }, { seed: layer });
    await synchronize();
    ms += performance.now() - start;
    const { bytes, peakBytes } = memory();
    peak = Math.max(peak, peakBytes - Math.max(before, bytes));
    if (name.startsWith('pissa')) {
      const tensors = new Map(set.namedParameters());
      for (const [target, weight] of weights) {
        const n = Math.min(...weight.shape);
        const [a, b] = ['A', 'B'].map((factor) => tensors.get(`${target}.lora_${factor}.weight`)) as [Tensor, Tensor];
        excess = Math.max(
          excess,
          await excessOf(
            a,
            b,
            Array.from({ length: n }, (_, i) => spectrum(i, n)),
          ),
        );
      }
    }
    set.dispose();
    network.dispose();
  }
  return {
    init: name,
    matrices: layers * targets.length,
    seconds: rounded(ms / 1000, 1),
    'peak MB': rounded(peak / 1e6, 0),
    'above best': name.startsWith('pissa') ? excess.toExponential(1) : '',
  };
}
