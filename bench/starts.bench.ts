// LoRA against each initialisation at equal rank and steps, on a language model: loss by step, held-out loss, and a picture of the curves.
// npm run bench -- starts --results FILE [--model smollm2-135m] [--subjects math,shakespeare] [--starts lora,pissa,...] [--steps 100]
//                         [--rates FILE] [--picture FILE]
//   Every finished run is kept in the results file, and a run that is there is not run again. --rates names the results of a search of
//   learning rates on one model and subject, whose best for a start is taken times --rate-factor; without it, --learning-rates 1e-4,3e-4
//   runs each rate. --picture draws the runs of this call.
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type Report, rounded, type Suite } from './harness.js';
import { type Panel, picture } from './methods/picture.js';
import { type Curve, type ModelName, models, type RunOptions, type Subject, starts, subjects, trainOne } from './methods/starts.js';

const flags = {
  results: { type: 'string' },
  model: { type: 'string', default: 'smollm2-135m' },
  subjects: { type: 'string', default: Object.keys(subjects).join() },
  starts: { type: 'string', default: Object.keys(starts).join() },
  steps: { type: 'string', default: '100' },
  batch: { type: 'string', default: '4' },
  seq: { type: 'string', default: '256' },
  rank: { type: 'string', default: '16' },
  seed: { type: 'string', default: '1' },
  rates: { type: 'string' },
  'rate-factor': { type: 'string', default: '1' },
  'learning-rates': { type: 'string', default: '2e-4' },
  picture: { type: 'string' },
} as const;

/** Steps whose losses are averaged for a point of a drawn curve. */
const kSmooth = 5;

const read = (file: string | undefined): Curve[] =>
  file !== undefined && existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Curve[]) : [];

function write(file: string, curves: readonly Curve[]): void {
  writeFileSync(`${file}.tmp`, `${JSON.stringify(curves)}\n`);
  renameSync(`${file}.tmp`, file);
}

const sameRun = (a: RunOptions, b: RunOptions): boolean =>
  (['model', 'subject', 'start', 'learningRate', 'rank', 'steps', 'batch', 'sequence', 'seed'] as const).every((key) => a[key] === b[key]);

/** A search of learning rates, which may be on a smaller model than the one that is trained. */
function readSearch(file: string): Curve[] {
  const search = read(file);
  const searched = new Set(search.map(({ model, subject }) => `${model} ${subject}`));
  if (searched.size !== 1)
    throw new Error(`starts: --rates ${file} holds runs of ${[...searched].join(', ') || 'nothing'}; expected one model and subject`);
  return search;
}

/** The rate with the lowest held-out loss of a search. */
function bestRate(search: readonly Curve[], start: string): number {
  const found = search.filter((curve) => curve.start === start && Number.isFinite(curve.held));
  if (found.length === 0) throw new Error(`starts: the search of rates has none for ${start}`);
  return found.reduce((best, curve) => (curve.held < best.held ? curve : best)).learningRate;
}

function drawn(curves: readonly Curve[]): string {
  const panels: Panel[] = [...new Set(curves.map(({ subject }) => subject))].map((subject) => ({
    title: `${curves[0]?.model}, ${subject}`,
    series: curves
      .filter((curve) => curve.subject === subject)
      .map(({ start, losses }) => ({
        label: starts[start]?.label ?? start,
        points: Array.from({ length: Math.floor(losses.length / kSmooth) }, (_, i) => {
          const window = losses.slice(i * kSmooth, (i + 1) * kSmooth);
          return [(i + 1) * kSmooth, window.reduce((a, b) => a + b, 0) / window.length] as const;
        }),
      })),
  }));
  return picture(panels, { x: 'step', y: `training loss, mean of ${kSmooth} steps` });
}

async function run(args: readonly string[], report: Report): Promise<object> {
  const { values } = parseArgs({ args: [...args], options: flags });
  const { results } = values;
  if (results === undefined) throw new Error('starts: --results FILE is needed');
  if (!Object.hasOwn(models, values.model))
    throw new Error(`starts: unknown model "${values.model}"; expected ${Object.keys(models).join(', ')}`);
  const search = values.rates === undefined ? undefined : readSearch(values.rates);
  const known = read(results);
  const curves: Curve[] = [];
  for (const subject of values.subjects.split(',')) {
    for (const start of values.starts.split(',')) {
      const rates =
        search === undefined
          ? values['learning-rates'].split(',').map(Number)
          : [rounded(Number(values['rate-factor']) * bestRate(search, start), 8)];
      for (const learningRate of rates) {
        const options: RunOptions = {
          model: values.model as ModelName,
          subject: subject as Subject,
          start,
          learningRate,
          rank: Number(values.rank),
          steps: Number(values.steps),
          batch: Number(values.batch),
          sequence: Number(values.seq),
          seed: Number(values.seed),
        };
        let curve = known.find((each) => sameRun(each, options));
        if (curve === undefined) {
          curve = await trainOne(options, report);
          known.push(curve);
          write(results, known);
        }
        curves.push(curve);
      }
    }
  }
  report.table(
    curves.map((curve) => ({
      subject: curve.subject,
      start: starts[curve.start]?.label ?? curve.start,
      rate: curve.learningRate,
      trainable: curve.trainable,
      'loss, last 10 steps': rounded(curve.losses.slice(-10).reduce((a, b) => a + b, 0) / 10, 4),
      'held-out loss': curve.held,
      'start s': curve.startSeconds,
    })),
  );
  if (values.picture !== undefined) writeFileSync(values.picture, drawn(curves));
  return { curves };
}

export const suite: Suite = { description: 'LoRA against each initialisation on a language model: curves and a picture', run };
