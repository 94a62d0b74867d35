// The adapters of LLM-Adapters beside each other: a model of characters, trained on word problems and adapted to other ones; held-out loss of the rationales.
// npm run bench -- llm-adapters [--seeds 1,2] [--steps 250] [--pretraining 1500] [--placement] [--json]
//   --placement searches where each kind of adapter is best: attention, MLP, or both.
import { parseArgs } from 'node:util';
import { attach, type Model } from 'lorikeet';
import type { AdapterConfig } from '#dist/adapters/index.js';
import { type Report, rounded, type Suite } from './harness.js';
import { characterModel, Problems, rationaleLoss, trainRows } from './methods/characters.js';

const data = process.env.LORIKEET_DATA ?? '../shared/data';
const flags = {
  seeds: { type: 'string', default: '1,2' },
  steps: { type: 'string', default: '250' },
  pretraining: { type: 'string', default: '1500' },
  batch: { type: 'string', default: '16' },
  placement: { type: 'boolean', default: false },
} as const;

const kBefore = ['SVAMP', 'gsm8k'];
const kAfter = ['AddSub', 'SingleEq'];
const kRate = 3e-3;
const kPrefixRate = 3e-2;

interface Variant {
  readonly name: string;
  readonly config: AdapterConfig;
  readonly learningRate?: number;
}

const qkv = ['q_proj', 'k_proj', 'v_proj'];
const lora = (targets: readonly string[]): AdapterConfig => ({ type: 'lora', rank: 8, alpha: 16, targets });
const prefix = (virtualTokens: number): Variant => ({
  name: `prefix ${virtualTokens}`,
  config: { type: 'prefix', virtualTokens },
  learningRate: kPrefixRate,
});

/** The comparison of the paper. */
const methods = {
  prefix: prefix(10),
  lora: { name: 'LoRA', config: lora([...qkv, 'up_proj', 'down_proj']) },
  adapterH: { name: 'AdapterH, bert', config: { type: 'bottleneck', bottleneckSize: 16 } },
  adapterHMam: { name: 'AdapterH, mam_adapter', config: { type: 'bottleneck', bottleneckSize: 16, init: 'mam_adapter' } },
  adapterP: { name: 'AdapterP', config: { type: 'bottleneck', bottleneckSize: 32, adapterP: true } },
  parallelAttention: { name: 'Parallel q, k, v', config: { type: 'bottleneck', bottleneckSize: 16, parallel: true } },
  parallelMlp: {
    name: 'Parallel up, down',
    config: { type: 'bottleneck', bottleneckSize: 12, parallel: true, targets: ['up_proj', 'down_proj'] },
  },
} as const satisfies Record<string, Variant>;

/** Where each kind stands: numbers of parameters of a kind are near each other. */
const places: Variant[] = [
  { name: 'series, attention', config: { type: 'bottleneck', bottleneckSize: 32, targets: ['o_proj'] } },
  { name: 'series, MLP', config: { type: 'bottleneck', bottleneckSize: 32, targets: ['down_proj'] } },
  { name: 'series, both', config: { type: 'bottleneck', bottleneckSize: 16, targets: ['o_proj', 'down_proj'] } },
  { name: 'parallel, attention', config: { type: 'bottleneck', bottleneckSize: 16, parallel: true } },
  { name: 'parallel, MLP', config: { type: 'bottleneck', bottleneckSize: 12, parallel: true, targets: ['up_proj', 'down_proj'] } },
  { name: 'parallel, both', config: { type: 'bottleneck', bottleneckSize: 7, parallel: true, targets: [...qkv, 'up_proj', 'down_proj'] } },
  { name: 'LoRA, attention', config: lora(qkv) },
  { name: 'LoRA, MLP', config: lora(['up_proj', 'down_proj']) },
  { name: 'LoRA, both', config: lora([...qkv, 'up_proj', 'down_proj']) },
  prefix(10),
  prefix(20),
  prefix(30),
];

interface Row {
  readonly name: string;
  readonly parameters: number;
  readonly losses: readonly number[];
  readonly mean: number;
}

const meanOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Trains one variant with each seed on the same frozen model. */
async function adapted(
  model: Model,
  variant: Variant,
  problems: Problems,
  options: { seeds: number[]; steps: number; batch: number },
): Promise<Row> {
  const losses: number[] = [];
  let parameters = 0;
  const rows = problems.read(kAfter, 'train');
  const held = problems.read(kAfter, 'dev');
  for (const seed of options.seeds) {
    const tuned = await attach(model, variant.config, { seed });
    parameters = tuned.table().reduce((sum, row) => sum + row.parameters, 0);
    const { steps, batch } = options;
    await trainRows({
      model: tuned,
      parameters: tuned.parameters(),
      rows,
      steps,
      batch,
      learningRate: variant.learningRate ?? kRate,
      seed,
    });
    losses.push(rounded(await rationaleLoss(tuned, held), 4));
    tuned.dispose();
  }
  return { name: variant.name, parameters, losses, mean: rounded(meanOf(losses), 4) };
}

interface Claim {
  readonly claim: string;
  readonly holds: boolean;
}

/** What the paper found, and what two starts have to have in common. */
function claimsOf(frozen: number, found: Readonly<Record<keyof typeof methods, Row>>): Claim[] {
  const mean = (name: keyof typeof methods): number => found[name].mean;
  const others = (Object.keys(methods) as (keyof typeof methods)[]).filter((name) => name !== 'prefix');
  return [
    {
      claim: 'every adapter is below the frozen model',
      holds: Object.values(found).every((row) => row.losses.every((loss) => loss < frozen)),
    },
    { claim: 'every other adapter is at least 5 % below the prefix', holds: others.every((name) => mean(name) <= 0.95 * mean('prefix')) },
    { claim: 'LoRA is lowest', holds: others.every((name) => name === 'lora' || mean('lora') < mean(name)) },
    { claim: 'AdapterH is below AdapterP', holds: mean('adapterH') < mean('adapterP') },
    { claim: 'Parallel on up, down is below Parallel on q, k, v', holds: mean('parallelMlp') < mean('parallelAttention') },
    { claim: 'the two starts of AdapterH are within 2 %', holds: Math.abs(mean('adapterH') / mean('adapterHMam') - 1) < 0.02 },
  ];
}

async function run(args: readonly string[], report: Report): Promise<object> {
  const { values } = parseArgs({ args: [...args], options: flags });
  const seeds = values.seeds.split(',').map(Number);
  const [steps, pretraining, batch] = [Number(values.steps), Number(values.pretraining), Number(values.batch)];
  const problems = new Problems(data, [...kBefore, ...kAfter]);
  const model = characterModel(1);
  model.network.unfreeze();
  const rows = problems.read(kBefore, 'train');
  await trainRows({
    model,
    parameters: model.network.trainableParameters(),
    rows,
    steps: pretraining,
    batch,
    learningRate: kRate,
    warmup: Math.ceil(pretraining / 30),
    seed: 1,
    whole: true,
  });
  model.network.freeze();
  const frozen = rounded(await rationaleLoss(model, problems.read(kAfter, 'dev')), 4);
  report.line(
    `${rows.length} problems of ${kBefore.join(' and ')} for ${pretraining} steps; frozen loss on ${kAfter.join(' and ')} ${frozen}`,
  );
  const variants: readonly Variant[] = values.placement ? places : Object.values(methods);
  const results: Row[] = [];
  for (const variant of variants) {
    const row = await adapted(model, variant, problems, { seeds, steps, batch });
    report.line(`${row.name}: ${row.parameters} parameters, ${row.losses.join(' ')}`);
    results.push(row);
  }
  model.dispose();
  report.table(
    results.map(({ name, parameters, mean }) => ({
      adapter: name,
      parameters,
      'held-out loss': mean,
      'of frozen': rounded(mean / frozen, 3),
    })),
  );
  const claims = values.placement
    ? []
    : claimsOf(frozen, Object.fromEntries(Object.keys(methods).map((key, i) => [key, results[i]])) as never);
  for (const { claim, holds } of claims) report.line(`${holds ? 'holds' : 'DOES NOT HOLD'}: ${claim}`);
  return { frozen, results, claims };
}

export const suite: Suite = {
  description: 'bottleneck adapters, LoRA and prefix tuning on a model of characters that learns word problems; where each stands best',
  run,
};
