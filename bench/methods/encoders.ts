// Adapters on published encoders: the data sets, the methods with their learning rates, and one training of one of them.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type EncoderModel, evaluate, loadModel, train } from 'lorikeet';
import { type DataSource, readRows } from 'lorikeet/data';
import { type AdapterConfig, attach } from '#dist/adapters/index.js';
import { type Report, rounded } from '../harness.js';

const data = process.env.LORIKEET_DATA ?? '../shared/data';

export const dtypes = ['f32', 'bf16'] as const;
type DType = (typeof dtypes)[number];

type Classifier = EncoderModel<'classification'>;
type Rows = readonly Readonly<Record<string, unknown>>[];

interface Wanted {
  /** At most so many rows to train on, and to measure with. */
  readonly train: number;
  readonly held: number;
  /** Rows to measure with are of the training part too, beside those trained on: a search must not see the rows that are compared. */
  readonly search: boolean;
}

/** Rows to train on and to measure with. */
type Split = (model: Classifier, wanted: Wanted) => Promise<{ train: Rows; held: Rows }>;

interface DataSet {
  readonly encoder: keyof typeof encoders;
  readonly labels: number;
  readonly epochs: number;
  readonly split: Split;
}

interface Method {
  readonly label: string;
  readonly config: AdapterConfig;
  readonly learningRate: number;
}

/** Where the methods that adapt linear layers stand in BERT, as Hydra does by default: the outputs of attention and of the MLP. */
const outputs = ['output.dense'];

/** Each encoder with its methods. Rates are the best of a search (`--search`) over data sets, with a seed and rows that are not compared. */
export const encoders = {
  minilm: {
    path: join(data, 'all-minilm-l6-v2'),
    dtype: 'bf16',
    methods: {
      probe: { label: 'linear probe', config: { type: 'linear-probe' }, learningRate: 3e-3 },
      bitfit: { label: 'BitFit', config: { type: 'bitfit' }, learningRate: 1e-2 },
      lora: { label: 'LoRA', config: { type: 'lora', rank: 8, alpha: 8, targets: outputs }, learningRate: 3e-3 },
      seqlora: { label: 'SeqLoRA', config: { type: 'hydra', rankParallel: 0, rankSequential: 8, targets: outputs }, learningRate: 3e-3 },
      hydra: { label: 'Hydra', config: { type: 'hydra', rankParallel: 4, rankSequential: 4, targets: outputs }, learningRate: 2e-3 },
      series: {
        label: 'bottleneck, series',
        config: { type: 'bottleneck', bottleneckSize: 8, init: 'mam_adapter', targets: outputs },
        learningRate: 3e-3,
      },
      parallel: {
        label: 'bottleneck, parallel',
        config: { type: 'bottleneck', bottleneckSize: 8, init: 'mam_adapter', parallel: true, targets: outputs },
        learningRate: 3e-3,
      },
      full: { label: 'full', config: { type: 'full' }, learningRate: 1e-4 },
    },
  },
  kwt: {
    path: join(data, 'kwt1-speech-commands'),
    dtype: 'f32',
    methods: {
      probe: { label: 'linear probe', config: { type: 'linear-probe' }, learningRate: 1e-2 },
      bitfit: { label: 'BitFit', config: { type: 'bitfit' }, learningRate: 3e-3 },
      lora: { label: 'LoRA', config: { type: 'lora', rank: 8, alpha: 8, targets: ['q', 'v'] }, learningRate: 3e-3 },
      block: { label: 'block adapter, parallel', config: { type: 'block-adapter', width: 8 }, learningRate: 3e-3 },
      conformer: { label: 'block adapter, Conformer', config: { type: 'block-adapter', block: 'conformer', width: 8 }, learningRate: 3e-3 },
      full: { label: 'full', config: { type: 'full' }, learningRate: 1e-3 },
    },
  },
} as const satisfies Record<string, { readonly path: string; readonly dtype: DType; readonly methods: Readonly<Record<string, Method>> }>;

/** So many rows at equal distances: files are sorted by class in places. */
function spread<T>(rows: readonly T[], most: number): T[] {
  const count = Math.min(most, rows.length);
  return Array.from({ length: count }, (_, i) => rows[Math.floor((i * rows.length) / count)] as T);
}

/** Rows to train on and the ones of the same part to measure a search with: every other row is for training. */
function halves<T>(rows: readonly T[], { train, held }: Wanted): { train: T[]; held: T[] } {
  const of = (odd: number): T[] => rows.filter((_, i) => i % 2 === odd);
  return { train: spread(of(0), train), held: spread(of(1), held) };
}

const sentences = (name: string, labels: number): DataSet => ({
  encoder: 'minilm',
  labels,
  epochs: 2,
  split: async (_, wanted) => {
    const read = (part: string): Promise<Rows> => readAll(join(data, `sentence-classification/${name}.${part}.jsonl`));
    if (wanted.search) return halves(await read('train'), wanted);
    return { train: spread(await read('train'), wanted.train), held: spread(await read('dev'), wanted.held) };
  },
});

async function readAll(path: string): Promise<Rows> {
  const rows: Readonly<Record<string, unknown>>[] = [];
  for await (const row of readRows(path)) rows.push(row.value as Readonly<Record<string, unknown>>);
  return rows;
}

/** What the front end of the model makes of the files of rows, which is the same in every epoch. */
const heard = (model: Classifier, rows: readonly { readonly file: string; readonly label: number }[]): Promise<Rows> =>
  Promise.all(rows.map(async ({ file, label }) => ({ audio: await model.processor?.read(file), label })));

const spokenDigits: DataSet = {
  encoder: 'kwt',
  labels: 10,
  epochs: 5,
  split: async (model, wanted) => {
    const read = (part: string) => {
      const folder = join(data, 'fsdd', part);
      return readdirSync(folder)
        .sort()
        .map((name) => ({ file: join(folder, name), label: Number(name[0]) }));
    };
    const { train, held } = wanted.search
      ? halves(read('train'), wanted)
      : { train: spread(read('train'), wanted.train), held: spread(read('test'), wanted.held) };
    return { train: await heard(model, train), held: await heard(model, held) };
  },
};

/** Folds 1 to 3 to train on, 4 to measure with; for a search 1 and 2, and 3. */
const environmentalSounds: DataSet = {
  encoder: 'kwt',
  labels: 10,
  epochs: 10,
  split: async (model, wanted) => {
    const clips = (await readAll(join(data, 'esc10/clips.csv'))).map(({ fold, file, label }) => ({
      fold: Number(fold),
      file: join(data, `esc10/fold${fold}`, String(file)),
      label: Number(label),
    }));
    const heldFold = wanted.search ? 3 : 4;
    const train = clips.filter(({ fold }) => fold < heldFold);
    const held = clips.filter(({ fold }) => fold === heldFold);
    return { train: await heard(model, spread(train, wanted.train)), held: await heard(model, spread(held, wanted.held)) };
  },
};

export const sets: Readonly<Record<string, DataSet>> = {
  trec6: sentences('trec6', 6),
  sst2: sentences('sst2', 2),
  sst5: sentences('sst5', 5),
  subj: sentences('subj', 2),
  cr: sentences('cr', 2),
  mpqa: sentences('mpqa', 2),
  fsdd: spokenDigits,
  esc10: environmentalSounds,
};

export interface RunOptions {
  readonly set: string;
  readonly method: string;
  readonly learningRate: number;
  /** Most rows to train on, and to measure with. */
  readonly rows: number;
  readonly heldRows: number;
  readonly epochs: number;
  readonly batch: number;
  readonly dtype: DType;
  readonly seed: number;
  /** Measured with rows of the training part, see `Wanted`. */
  readonly search: boolean;
}

export interface Run extends RunOptions {
  /** Share of held-out rows that are right, after the last step. */
  readonly accuracy: number;
  /** Trained numbers, with the head. */
  readonly trainable: number;
  readonly steps: number;
  /** Seconds of training. */
  readonly seconds: number;
}

interface Compared {
  readonly methods: Readonly<Record<string, Method>>;
  readonly epochs: number;
  readonly dtype: DType;
}

/** What a set is learnt with where nothing else is asked for. Throws for a set that there is not. */
export function comparedOn(set: string): Compared {
  const found = sets[set];
  if (found === undefined) throw new Error(`encoders: unknown set "${set}"; expected ${Object.keys(sets).join(', ')}`);
  const { methods, dtype } = encoders[found.encoder];
  return { methods, dtype, epochs: found.epochs };
}

/** Tokens that a text is cut to. */
const kSequence = 64;

/** Attaches, trains and measures; head, adapter and order of rows are drawn from the seed, the rows are the same for all. */
export async function trainOne(options: RunOptions, report: Report): Promise<Run> {
  const { set, method, learningRate, epochs, batch, dtype, seed } = options;
  const { encoder, labels, split } = sets[set] as DataSet;
  const { label, config } = comparedOn(set).methods[method] as Method;
  const model = await loadModel(encoders[encoder].path, { task: 'classification', labels, dtype, seed });
  try {
    const rows = await split(model, { train: options.rows, held: options.heldRows, search: options.search });
    const tuned = await attach(model, config, { seed });
    const steps = Math.ceil((epochs * rows.train.length) / batch);
    const cut = encoder === 'minilm' ? { sequence: kSequence, lengthGrouped: true } : {};
    const training = {
      ...cut,
      steps,
      batch,
      learningRate,
      schedule: 'linear',
      warmup: Math.ceil(steps / 20),
      weightDecay: 0.01,
      seed,
      memory: 'ignore',
    } as const;
    const began = performance.now();
    await train(tuned, { data: { train: source(rows.train) }, training });
    const seconds = rounded((performance.now() - began) / 1000, 1);
    const { metrics } = await evaluate(tuned, source(rows.held), { batch: 32, ...(encoder === 'minilm' && { maxLength: kSequence }) });
    const accuracy = rounded(metrics.accuracy ?? Number.NaN, 4);
    const trainable = tuned.parameters().reduce((sum, { size }) => sum + size, 0);
    report.line(
      `${set} ${label} rate ${learningRate} seed ${seed}: accuracy ${accuracy}, ${trainable} trained, ${steps} steps, ${seconds} s`,
    );
    return { ...options, accuracy, trainable, steps, seconds };
  } finally {
    model.dispose();
  }
}

const source = (rows: Rows): DataSource => ({ rows });
