import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { AnyInit } from '#dist/inits/init.js';
import { inits } from '#dist/inits/registry.js';
import { readRecipe } from '#dist/recipe.js';
import { lastJson, lorikeet, temporaryFolder } from '../helpers/command-line.js';
import { shippedModel, shippedText } from '../helpers/shipped.js';

// Recipes whose adapter looks at weights or data before it starts.

const folder = temporaryFolder();
const recipe = join(folder, 'recipe.yaml');
writeFileSync(
  recipe,
  `model: ${shippedModel}
adapter: { type: lora, rank: 4, alpha: 8, targets: all-linear }
data:
  train: { path: ${shippedText('train')} }
  eval: { path: ${shippedText('dev')} }
training: { steps: 3, batch: 2, sequence: 48, learningRate: 5.0e-3, schedule: constant, saveEvery: 1 }
`,
);

const all: readonly AnyInit[] = Object.values(inits);
const looking = all.filter(({ usesData }) => usesData);
/** One that looks at the weights alone; of those that look at data one that changes the base, and one that keeps it. */
const methods: readonly AnyInit[] = [
  inits.pissa,
  ...[true, false].map((changes) => looking.find(({ changesBase }) => changesBase === changes) as AnyInit),
];
const train = (out: string, init: unknown, ...more: string[]) =>
  lorikeet(['train', recipe, '--set', `adapter.init=${JSON.stringify(init)}`, ...more, '--out', join(folder, out), '--json']);
const weightsIn = (out: string): Buffer => readFileSync(join(folder, out, 'adapter', 'adapter_model.safetensors'));

for (const { name, usesData, changesBase, defaults } of methods) {
  const few = usesData && 'batches' in defaults ? { type: name, batches: 4 } : { type: name };

  test.serial(`${name}: trained, gone on with, evaluated and merged as any adapter`, async (t) => {
    const sources = usesData ? ['--set', `data.calibration={ path: ${shippedText('dev')} }`] : [];
    const straight = await train(`${name}-straight`, few, ...sources);
    t.is(straight.code, 0, straight.stderr);
    const out = `${name}-resumed`;
    const first = await train(out, few, ...sources, '--set', 'training.steps=2');
    t.is(first.code, 0, first.stderr);
    const second = await train(out, few, ...sources, '--resume');
    t.is(second.code, 0, second.stderr);
    t.deepEqual(weightsIn(out), weightsIn(`${name}-straight`));
    if (usesData) t.like(readRecipe(join(folder, out, 'recipe.yaml')).data, { calibration: { path: shippedText('dev') } });

    const adapter = join(folder, out, 'adapter');
    const options = ['--model', shippedModel, '--adapter', adapter, '--data', shippedText('dev'), '--max-length', '48', '--json'];
    const evaluated = await lorikeet(['evaluate', ...options]);
    const { evalLoss } = lastJson(straight) as { evalLoss: number };
    t.true(Math.abs((lastJson(evaluated).nll as number) - evalLoss) < 1e-4, evaluated.stderr);
    const seen = await lorikeet(['inspect', adapter]);
    t.regex(seen.stdout, changesBase ? /init_lora_weights: true/ : /init_lora_weights: /);
    const merged = join(folder, `${name}-merged`);
    const merging = await lorikeet(['merge', '--model', shippedModel, '--adapter', adapter, '--out', merged]);
    t.is(merging.code, 0, merging.stderr);
    const whole = await lorikeet(['evaluate', '--model', merged, '--data', shippedText('dev'), '--max-length', '48', '--json']);
    t.true(Math.abs((lastJson(whole).nll as number) - evalLoss) < 1e-4, whole.stderr);
  });
}

test.serial('a run that is gone on with does without the calibration data', async (t) => {
  const rows = join(folder, 'calibration.txt');
  writeFileSync(rows, readFileSync(shippedText('dev')));
  const sources = ['--set', `data.calibration={ path: ${rows} }`];
  const init = { type: 'eva', batches: 2 };
  const first = await train('without', init, ...sources, '--set', 'training.steps=2');
  t.is(first.code, 0, first.stderr);
  rmSync(rows);
  const second = await train('without', init, ...sources, '--resume');
  t.is(second.code, 0, second.stderr);
  const begun = await train('begun', init, ...sources);
  t.is(begun.code, 2, begun.stderr);
  t.regex(begun.stderr, /data\.calibration/);
});

test('Ctrl-C before the first step leaves nothing behind', async (t) => {
  let sent = false;
  // Away from a terminal progress is told every few seconds: this start takes many times as long.
  const long = ['--set', 'adapter.init={ type: pissa, niter: 100000 }'];
  const { code, stderr } = await lorikeet(['train', recipe, ...long, '--out', join(folder, 'cancelled')], (text, child) => {
    if (sent || !text.includes('initialising')) return;
    sent = true;
    child.kill('SIGINT');
  });
  t.true(sent, stderr);
  t.is(code, 130, stderr);
  t.false(existsSync(join(folder, 'cancelled')));
});
