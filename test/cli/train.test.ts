import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { readRecipe } from '#dist/recipe.js';
import { lastJson, lorikeet, temporaryFolder } from '../helpers/command-line.js';
import { shippedModel, shippedText } from '../helpers/shipped.js';

const folder = temporaryFolder();
const recipe = join(folder, 'recipe.yaml');
writeFileSync(
  recipe,
  `model: ${shippedModel}
adapter: { type: lora, rank: 4, alpha: 8, targets: all-linear }
data:
  train: { path: ${shippedText('train')} }
  eval: { path: ${shippedText('dev')} }
training: { steps: 6, batch: 2, sequence: 64, learningRate: 5.0e-3, evalEvery: 3, saveEvery: 2, warmup: 1 }
`,
);

test('a run: JSON fields, run folder, evaluation, merge, resume', async (t) => {
  const out = join(folder, 'run');
  const result = await lorikeet(['train', recipe, '--out', out, '--json']);
  t.is(result.code, 0, result.stderr);
  const json = lastJson(result);
  for (const key of ['steps', 'loss', 'evalLoss', 'tokens', 'tokensPerSecond', 'peakBytes', 'trainableParameters', 'seconds'])
    t.is(typeof json[key], 'number', key);
  t.is(json.steps, 6);
  t.is(json.adapter, join(out, 'adapter'));

  for (const name of [
    'recipe.yaml',
    'metrics.jsonl',
    'report.html',
    'run.json',
    'adapter/adapter_config.json',
    'adapter/adapter_model.safetensors',
    'best/adapter_model.safetensors',
    'checkpoints/step-6/state.json',
  ]) {
    t.true(existsSync(join(out, name)), name);
  }
  t.false(existsSync(join(out, 'lock')));
  const complete = readRecipe(join(out, 'recipe.yaml'));
  t.like(complete.training, { steps: 6, clip: 1, shuffle: true, optimizer: 'adamw' });
  t.like(complete.adapter, { type: 'lora', rank: 4, dropout: 0 });
  const rows = readFileSync(join(out, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  t.deepEqual(
    rows.filter((row) => 'loss' in row).map((row) => row.step),
    [1, 2, 3, 4, 5, 6],
  );
  t.deepEqual(Object.keys(rows[0] ?? {}), ['step', 'loss', 'learningRate', 'gradNorm', 'tokens', 'seconds', 'peakBytes', 'residentBytes']);
  t.deepEqual(
    rows.filter((row) => 'evalLoss' in row).map((row) => row.step),
    [3, 6],
  );

  const again = await lorikeet(['train', recipe, '--out', out]);
  t.is(again.code, 2);
  t.regex(again.stderr, /exists; resume its run \(--resume\)/);
  const resumed = await lorikeet(['train', recipe, '--out', out, '--resume', '--json']);
  t.is(resumed.code, 0, resumed.stderr);
  t.is(lastJson(resumed).steps, 6);
  t.is(lastJson(resumed).loss, json.loss);

  const evaluated = await lorikeet(['evaluate', '--recipe', recipe, '--adapter', join(out, 'adapter'), '--max-length', '64', '--json']);
  t.is(evaluated.code, 0, evaluated.stderr);
  t.true(Math.abs((lastJson(evaluated).nll as number) - (json.evalLoss as number)) < 1e-6);

  const merged = join(folder, 'merged');
  const merge = await lorikeet(['merge', '--model', shippedModel, '--adapter', join(out, 'adapter'), '--out', merged, '--json']);
  t.is(merge.code, 0, merge.stderr);
  t.is(lastJson(merge).out, merged);
  t.true((lastJson(merge).maxError as number) < 1e-4);
  const whole = await lorikeet(['evaluate', '--model', merged, '--data', shippedText('dev'), '--max-length', '64', '--json']);
  t.true(Math.abs((lastJson(whole).nll as number) - (json.evalLoss as number)) < 1e-5);
});

test('Ctrl-C finishes the step, saves, says how to resume; the resumed run ends like an undisturbed one', async (t) => {
  const settings = [
    '--set',
    'training.steps=40',
    '--set',
    'training.evalEvery=0',
    '--set',
    `data={ train: { path: ${shippedText('train')} } }`,
  ];
  const out = join(folder, 'stopped');
  let watched = false;
  const stopped = await lorikeet(['train', recipe, ...settings, '--out', out], (_, child) => {
    if (watched) return;
    watched = true;
    const timer = setInterval(() => {
      if (!existsSync(join(out, 'checkpoints', 'step-2'))) return;
      clearInterval(timer);
      child.kill('SIGINT');
    }, 2);
    child.once('close', () => clearInterval(timer));
  });
  t.is(stopped.code, 130, stopped.stderr);
  t.regex(stopped.stderr, /cancelled after step \d+ of 40; saved ".*step-\d+"; .*--resume/);
  const resumed = await lorikeet(['train', recipe, ...settings, '--out', out, '--resume', '--json']);
  t.is(resumed.code, 0, resumed.stderr);
  const straight = await lorikeet(['train', recipe, ...settings, '--out', join(folder, 'straight'), '--json']);
  t.is(straight.code, 0, straight.stderr);
  const weights = (run: string) => readFileSync(join(folder, run, 'adapter', 'adapter_model.safetensors'));
  t.deepEqual(weights('stopped'), weights('straight'));
  t.is(lastJson(resumed).loss, lastJson(straight).loss);
  const steps = readFileSync(join(out, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { step: number }).step);
  t.deepEqual(
    steps,
    Array.from({ length: 40 }, (_, index) => index + 1),
  );
});

test('a saved adapter is trained on, and a recipe without `out` writes nothing but the result', async (t) => {
  const first = join(folder, 'first');
  const settings = ['--set', 'training.steps=2', '--set', `data={ train: { path: ${shippedText('train')} } }`];
  t.is((await lorikeet(['train', recipe, ...settings, '--out', first])).code, 0);
  const adapter = join(first, 'adapter');
  const second = await lorikeet(['train', recipe, ...settings, '--set', `adapter=${adapter}`, '--json']);
  t.is(second.code, 0, second.stderr);
  t.regex(second.stderr, /nothing will be written/);
  t.like(lastJson(second), { steps: 2, adapter: null, evalLoss: null });
  const missing = await lorikeet(['train', recipe, '--set', `adapter=${join(folder, 'none')}`]);
  t.is(missing.code, 2);
  t.regex(missing.stderr, /no adapter_config\.json/);
});

test('an unknown option of the adapter is wrong use, before anything is written', async (t) => {
  const out = join(folder, 'never');
  const result = await lorikeet(['train', recipe, '--set', 'adapter={ type: lora, aplha: 3 }', '--out', out]);
  t.is(result.code, 2);
  t.regex(result.stderr, /unknown key "aplha" for "lora"; did you mean "alpha"\?/);
  t.false(existsSync(out));
});

test('skipped steps, an early end and damaged checkpoints are told', async (t) => {
  const out = join(folder, 'told');
  const args = ['train', recipe, '--out', out, '--json', '--resume'];
  // With this rate nothing moves: some loss is above 1.001 times the median, and no evaluation is better than the first.
  for (const set of [
    'steps=40',
    'learningRate=1.0e-30',
    'evalEvery=4',
    'earlyStopping={patience: 2}',
    'policy={lossSpike: skip, spikeWindow: 3, spikeFactor: 1.001}',
  ])
    args.push('--set', `training.${set}`);
  const first = await lorikeet(args);
  t.is(first.code, 0, first.stderr);
  t.regex(first.stderr, /step \d+ skipped \(spike\): loss \d\.\d{4}/);
  t.is(lastJson(first).steps, 12);
  t.regex(lastJson(first).stoppedEarly as string, /^held-out loss not below \d\.\d+ in 2 evaluations$/);
  t.true((lastJson(first).skippedSteps as number) > 0);
  writeFileSync(join(out, 'checkpoints', 'step-12', 'optimizer.safetensors'), 'damaged');
  const second = await lorikeet(args);
  t.is(second.code, 0, second.stderr);
  t.regex(second.stderr, /a damaged checkpoint was set aside as \S+step-12\.damaged: \S+optimizer\.safetensors: damaged/);
  t.regex(second.stderr, /going on from \S+step-10 \(step 10\)/);
  t.is(lastJson(second).loss, lastJson(first).loss);
  t.regex(readFileSync(join(out, 'report.html'), 'utf8'), /Stopped early after step 12: held-out loss not below/);
});
