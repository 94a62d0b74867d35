// One training step: forward, loss, backward, clip at 1.0, AdamW. Random weights of a published shape, or --model PATH.
// npm run bench -- step --shape smollm2-135m --dtype bf16 --batch 1 --seq 1024 --rank 16 --steps 5 [--layers N] [--no-lora] [--compute int8] [--checkpoint] [--layout retile|dual|native] [--model PATH]
//   [--profile] [--threads N | --threads 1,2] [--warmup 2] [--foreign-load [--rounds 2]] [--peer PYTHON [--rounds 2] [--peer-script FILE]] [--json]
import { parseArgs } from 'node:util';
import { type DType, loadModel, type Model, scope, setThreads, threads } from 'lorikeet';
import type { WeightLayout } from 'lorikeet/ops';
import { AdamW, clipScale, gradientNorm } from 'lorikeet/optim';
import { attach } from '#dist/adapters/index.js';
import { profileRows, profileText } from '#dist/cli/profile-report.js';
import { gigaflops, measure, type Report, rounded, type Suite } from './harness.js';
import { calibrate, peakFlops, percentOf, rooflineOf } from './roofline/roofline.js';
import { fastestProfile } from './step/fastest-profile.js';
import { stepFlops, stepSizes } from './step/flops.js';
import { underForeignLoad } from './step/foreign-load.js';
import { compare, type StepNumbers } from './step/peer.js';
import { InputGradient, randomModel } from './step/random-model.js';
import { measureScaling } from './step/scaling.js';
import { type ShapeName, shapes } from './step/shapes.js';

interface Options {
  readonly shape: string;
  readonly dtype: string;
  readonly compute: string | undefined;
  readonly batch: number;
  readonly seq: number;
  readonly rank: number;
  readonly steps: number;
  readonly warmup: number;
  readonly layers: number | undefined;
  readonly lora: boolean;
  readonly checkpoint: boolean;
  readonly layout: WeightLayout;
  readonly profile: boolean;
  readonly model: string | undefined;
  readonly threads: number | undefined;
  readonly foreignLoad: boolean;
  readonly rounds: number;
}

const flags = {
  shape: { type: 'string', default: 'smollm2-135m' },
  dtype: { type: 'string', default: 'f32' },
  compute: { type: 'string' },
  batch: { type: 'string', default: '1' },
  seq: { type: 'string', default: '1024' },
  rank: { type: 'string', default: '16' },
  steps: { type: 'string', default: '5' },
  warmup: { type: 'string', default: '2' },
  layers: { type: 'string' },
  'no-lora': { type: 'boolean', default: false },
  checkpoint: { type: 'boolean', default: false },
  layout: { type: 'string', default: 'retile' },
  profile: { type: 'boolean', default: false },
  model: { type: 'string' },
  threads: { type: 'string' },
  'foreign-load': { type: 'boolean', default: false },
  peer: { type: 'string' },
  'peer-script': { type: 'string', default: '../shared/baselines/peft_step.py' },
  rounds: { type: 'string', default: '2' },
} as const;

const optionalNumber = (text: string | undefined): number | undefined => (text === undefined ? undefined : Number(text));

function modelOf(options: Options): Promise<Model> | Model {
  const int8 = options.compute === 'int8';
  if (options.compute !== undefined && !int8) throw new Error(`step: unknown compute "${options.compute}"; expected int8`);
  if (options.model !== undefined)
    return loadModel(options.model, { dtype: options.dtype as 'f32' | 'bf16', layout: options.layout, ...(int8 && { compute: 'int8' }) });
  if (!Object.hasOwn(shapes, options.shape))
    throw new Error(`step: unknown shape "${options.shape}"; expected ${Object.keys(shapes).join(', ')}`);
  const published = shapes[options.shape as ShapeName];
  // Memory and time of a step do not depend on what the model was trained for.
  const config = { ...published, max_position_embeddings: Math.max(published.max_position_embeddings, options.seq) };
  return randomModel(
    { ...config, ...(options.layers !== undefined && { num_hidden_layers: options.layers }) },
    options.dtype as DType,
    options.layout,
    int8,
  );
}

/** Fixed pseudo-random token ids. */
function tokens(rows: number, length: number, vocabulary: number): number[][] {
  let state = 1;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % vocabulary;
  };
  return Array.from({ length: rows }, () => Array.from({ length }, next));
}

async function step(options: Options, report: Report): Promise<StepNumbers & Record<string, unknown>> {
  if (options.threads !== undefined) setThreads(options.threads);
  const figures = calibrate(report);
  const model = await modelOf(options);
  const { network } = model;
  const ids = tokens(options.batch, options.seq, network.shape.vocabularySize);
  const tuned = options.lora
    ? await attach(model, { type: 'lora', rank: options.rank, alpha: 2 * options.rank, targets: 'all-linear' }, { seed: 1 })
    : undefined;
  const parameters = tuned?.parameters() ?? [];
  if (!tuned) network.model.embed_tokens = new InputGradient(network.model.embed_tokens);
  const optimizer = tuned && new AdamW(parameters, { learningRate: 1e-4 });
  network.train();
  const losses: number[] = [];
  const once = () =>
    scope(async () => {
      const loss = model.loss({ ids, checkpointing: options.checkpoint });
      loss.backward();
      if (optimizer) {
        optimizer.step({ clipScale: clipScale(gradientNorm(parameters), 1) });
        optimizer.zeroGrad();
      }
      losses.push(await loss.item());
    });
  const [timing] = await measure([{ name: 'step', run: once }], { iterations: options.steps, time: 0, warmup: options.warmup });
  if (!timing) throw new Error('step: nothing was measured');
  const flops = stepFlops(stepSizes(model.config, options.batch, options.seq, options.lora ? options.rank : 0, options.checkpoint));
  const speed = gigaflops(flops.total, timing.p50);
  const load = options.foreignLoad ? await underForeignLoad(once, options.rounds, options.steps) : undefined;
  const rows = options.profile ? profileRows(await fastestProfile(once, options.steps), rooflineOf(figures)) : undefined;
  const numbers = {
    peer: 'lorikeet',
    shape: options.model ?? options.shape,
    layers: network.shape.layers,
    dtype: options.dtype,
    compute: options.compute ?? options.dtype,
    batch: options.batch,
    seq: options.seq,
    rank: options.rank,
    checkpoint: options.checkpoint,
    layout: options.layout,
    threads: threads(),
    ms: rounded(timing.p50),
    ms_min: rounded(timing.min),
    tokens_per_s: rounded((options.batch * options.seq) / (timing.p50 / 1000), 1),
    gflop: rounded(flops.total / 1e9),
    gflops: speed,
    percent_of_roofline: percentOf(speed, peakFlops(figures, options.dtype)),
    peak_mb: Math.round(process.resourceUsage().maxRSS / 1024),
    trainable: parameters.reduce((sum, parameter) => sum + parameter.size, 0),
    first_loss: rounded(losses[0] ?? Number.NaN, 4),
    last_loss: rounded(losses.at(-1) ?? Number.NaN, 4),
  };
  report.table(
    [numbers].map(({ ms, ms_min, tokens_per_s, gflops, percent_of_roofline, peak_mb, trainable, first_loss }) => ({
      ms,
      ms_min,
      tokens_per_s,
      gflops,
      '% of roofline': percent_of_roofline,
      peak_mb,
      trainable,
      first_loss,
    })),
  );
  if (load)
    report.line(
      `beside a busy process a core: ${load.ms_loaded} ms, quiet ${load.ms_quiet} ms; ${load.percent_left} % of the throughput left`,
    );
  if (rows) report.line(profileText(rows));
  optimizer?.dispose();
  model.dispose();
  return { ...numbers, ...(load && { foreign_load: load }), ...(rows && { profile: rows }) };
}

/** The options of this suite in the words of the peer script. */
function peerArguments(options: Options): string[] {
  const dtype = { f32: 'float32', bf16: 'bfloat16' }[options.dtype];
  if (dtype === undefined) throw new Error(`step: the peer knows f32 and bf16; got ${options.dtype}`);
  const list = [
    '--dtype',
    dtype,
    '--batch',
    `${options.batch}`,
    '--seq',
    `${options.seq}`,
    '--rank',
    `${options.rank}`,
    '--steps',
    `${options.steps}`,
  ];
  list.push('--warmup', `${options.warmup}`, '--threads', `${options.threads ?? threads()}`);
  list.push(...(options.model === undefined ? ['--shape', options.shape] : ['--model', options.model]));
  if (options.layers !== undefined) list.push('--layers', `${options.layers}`);
  if (!options.lora) list.push('--no-lora');
  if (options.checkpoint) list.push('--checkpoint');
  return list;
}

/** The arguments without some options that have a value. */
const without = (args: readonly string[], names: readonly string[]): string[] =>
  args.filter((arg, i) => !names.some((name) => arg === name || arg.startsWith(`${name}=`)) && !names.some((name) => args[i - 1] === name));

function scaling(args: readonly string[], threads: string, report: Report): Record<string, unknown> {
  const counts = threads.split(',').map(Number);
  const result = measureScaling(without(args, ['--threads']), counts, (count, { ms, ms_min, percent_of_roofline }) =>
    report.line(`${count} threads: ${ms} ms, best ${ms_min} ms, ${percent_of_roofline}% of roofline`),
  );
  report.line(`time with ${Math.min(...counts)} / ${Math.max(...counts)} threads: ${result.ratio}`);
  return { ...result };
}

export const suite: Suite = {
  description: 'one LoRA training step of a published shape',
  async run(args, report) {
    const { values } = parseArgs({ args: [...args], options: flags });
    if (values.threads?.includes(',')) return scaling(args, values.threads, report);
    const options: Options = {
      shape: values.shape,
      dtype: values.dtype,
      compute: values.compute,
      batch: Number(values.batch),
      seq: Number(values.seq),
      rank: Number(values.rank),
      steps: Number(values.steps),
      warmup: Number(values.warmup),
      layers: optionalNumber(values.layers),
      lora: !values['no-lora'],
      checkpoint: values.checkpoint,
      layout: values.layout as WeightLayout,
      profile: values.profile,
      model: values.model,
      threads: optionalNumber(values.threads),
      foreignLoad: values['foreign-load'],
      rounds: Number(values.rounds),
    };
    if (values.peer === undefined) return step(options, report);
    const own = without(args, ['--peer', '--peer-script', '--rounds']);
    const comparison = compare(
      { python: values.peer, script: values['peer-script'], own, theirs: peerArguments(options), rounds: Number(values.rounds) },
      (who, { ms, ms_min, tokens_per_s, peak_mb, trainable, percent_of_roofline }) =>
        report.line(
          `${who.padEnd(9)} ${ms} ms, best ${ms_min} ms, ${tokens_per_s} tokens/s, peak ${peak_mb} MB, ${trainable} trainable${percent_of_roofline === undefined ? '' : `, ${percent_of_roofline}% of roofline`}`,
        ),
    );
    report.line(
      `time of the peer / ours: ${comparison.ratio} (medians), ${comparison.ratio_min} (best); memory ${comparison.ratio_memory}`,
    );
    const { ms } = comparison;
    return { ...comparison.own_runs.at(-1), ...comparison, tokens_per_s: rounded((options.batch * options.seq) / (ms / 1000), 1) };
  },
};
