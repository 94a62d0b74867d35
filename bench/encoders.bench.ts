// Adapters on published encoders beside linear probes and full fine-tuning: accuracy, trained numbers and seconds, means over seeds.
// npm run bench -- encoders --results FILE [--sets trec6,fsdd,...] [--methods probe,lora,...] [--seeds 1,2,3] [--rows 1000] [--held-rows 500]
//                           [--epochs 2] [--batch 16] [--dtype f32] [--learning-rates 1e-3,3e-3] [--search]
//   Every finished run is kept in the results file, and a run that is there is not run again. --epochs, --dtype and --learning-rates (each
//   of them is run) take the place of those of a set, its encoder and a method. --search measures with rows of the training part that are
//   not trained on, to choose rates with.
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type Report, rounded, type Suite } from './harness.js';
import { comparedOn, dtypes, encoders, type Run, type RunOptions, sets, trainOne } from './methods/encoders.js';

const flags = {
  results: { type: 'string' },
  sets: { type: 'string', default: Object.keys(sets).join() },
  methods: { type: 'string' },
  seeds: { type: 'string', default: '1,2,3' },
  rows: { type: 'string', default: '1000' },
  'held-rows': { type: 'string', default: '500' },
  epochs: { type: 'string' },
  batch: { type: 'string', default: '16' },
  dtype: { type: 'string' },
  'learning-rates': { type: 'string' },
  search: { type: 'boolean', default: false },
} as const;

type Values = ReturnType<typeof parseArgs<{ options: typeof flags }>>['values'];

const identity = ['set', 'method', 'learningRate', 'rows', 'heldRows', 'epochs', 'batch', 'dtype', 'seed', 'search'] as const;
const sameRun = (a: RunOptions, b: RunOptions): boolean => identity.every((key) => a[key] === b[key]);

function write(file: string, runs: readonly Run[]): void {
  writeFileSync(`${file}.tmp`, `${JSON.stringify(runs)}\n`);
  renameSync(`${file}.tmp`, file);
}

/** The runs that are asked for: all sets and methods with one seed before the next. A method that the encoder of a set lacks is left out. */
function planOf(values: Values): RunOptions[] {
  const dtype = dtypes.find((name) => name === values.dtype);
  if (values.dtype !== undefined && dtype === undefined)
    throw new Error(`encoders: unknown dtype "${values.dtype}"; expected ${dtypes.join(' or ')}`);
  const chosen = values.methods?.split(',');
  const known = Object.values(encoders).flatMap(({ methods }) => Object.keys(methods));
  for (const name of chosen ?? [])
    if (!known.includes(name)) throw new Error(`encoders: unknown method "${name}"; expected ${[...new Set(known)].join(', ')}`);
  const plan: RunOptions[] = [];
  for (const seed of values.seeds.split(',').map(Number))
    for (const set of values.sets.split(',')) {
      const { methods, ...usual } = comparedOn(set);
      for (const [method, own] of Object.entries(methods)) {
        if (chosen !== undefined && !chosen.includes(method)) continue;
        for (const learningRate of values['learning-rates']?.split(',').map(Number) ?? [own.learningRate])
          plan.push({
            set,
            method,
            learningRate,
            rows: Number(values.rows),
            heldRows: Number(values['held-rows']),
            epochs: values.epochs === undefined ? usual.epochs : Number(values.epochs),
            batch: Number(values.batch),
            dtype: dtype ?? usual.dtype,
            seed,
            search: values.search,
          });
      }
    }
  return plan;
}

const meanOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Standard deviation of the sample; 0 of a single value. */
function deviationOf(values: readonly number[]): number {
  const mean = meanOf(values);
  return values.length < 2 ? 0 : Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1));
}

interface Summary {
  readonly set: string;
  readonly method: string;
  readonly learningRate: number;
  readonly seeds: number;
  readonly trainable: number;
  /** Percent of held-out rows. */
  readonly accuracy: number;
  readonly deviation: number;
  readonly seconds: number;
}

/** Runs that differ in their seed alone, as one row. */
function summaries(runs: readonly Run[]): Summary[] {
  const groups = new Map<string, Run[]>();
  for (const run of runs) {
    const key = `${run.set} ${run.method} ${run.learningRate}`;
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  return [...groups.values()].map((group) => {
    const { set, method, learningRate, trainable } = group[0] as Run;
    const accuracies = group.map(({ accuracy }) => 100 * accuracy);
    return {
      set,
      method,
      learningRate,
      seeds: group.length,
      trainable,
      accuracy: rounded(meanOf(accuracies), 1),
      deviation: rounded(deviationOf(accuracies), 1),
      seconds: rounded(meanOf(group.map(({ seconds }) => seconds)), 1),
    };
  });
}

/** One table an encoder: a row for each method and rate, a column of accuracies for each set. */
function print(found: readonly Summary[], report: Report): void {
  for (const encoder of Object.keys(encoders)) {
    const own = found.filter(({ set }) => sets[set]?.encoder === encoder);
    const rows = new Map<string, Summary[]>();
    for (const each of own) {
      const key = `${each.method} ${each.learningRate}`;
      rows.set(key, [...(rows.get(key) ?? []), each]);
    }
    if (rows.size === 0) continue;
    report.line(`\n${encoder}: accuracy in percent, mean ± standard deviation over seeds`);
    report.table(
      [...rows.values()].map((row) => {
        const { set, method, learningRate, trainable } = row[0] as Summary;
        return {
          method: comparedOn(set).methods[method]?.label ?? method,
          rate: learningRate,
          trained: trainable,
          ...Object.fromEntries(row.map((each) => [each.set, `${each.accuracy.toFixed(1)} ± ${each.deviation.toFixed(1)}`])),
          mean: meanOf(row.map(({ accuracy }) => accuracy)).toFixed(1),
          's a run': rounded(meanOf(row.map(({ seconds }) => seconds)), 1),
          seeds: Math.min(...row.map(({ seeds }) => seeds)),
        };
      }),
    );
  }
}

async function run(args: readonly string[], report: Report): Promise<object> {
  const { values } = parseArgs({ args: [...args], options: flags });
  const { results } = values;
  if (results === undefined) throw new Error('encoders: --results FILE is needed');
  const known = existsSync(results) ? (JSON.parse(readFileSync(results, 'utf8')) as Run[]) : [];
  const runs: Run[] = [];
  for (const options of planOf(values)) {
    let found = known.find((each) => sameRun(each, options));
    if (found === undefined) {
      found = await trainOne(options, report);
      known.push(found);
      write(results, known);
    }
    runs.push(found);
  }
  const found = summaries(runs);
  print(found, report);
  return { runs, summaries: found };
}

export const suite: Suite = {
  description: 'adapters on a published text encoder and a published audio encoder, on real data sets, over seeds',
  run,
};
