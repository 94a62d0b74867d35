import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { loadModel } from 'lorikeet';
import { lastJson, lorikeet, temporaryFolder } from '../helpers/command-line.js';
import { goldenFolder } from '../helpers/folders.js';
import { shippedModel, shippedText } from '../helpers/shipped.js';

const folder = temporaryFolder();
const dev = join(folder, 'dev.jsonl');
writeFileSync(dev, readFileSync(shippedText('dev'), 'utf8').split('\n').slice(0, 20).join('\n'));

test.serial('a recipe trains on nf4, evaluates in it and merges into floats', async (t) => {
  const recipe = join(folder, 'recipe.yaml');
  const out = join(folder, 'run');
  writeFileSync(
    recipe,
    [
      `model: ${shippedModel}`,
      'dtype: { type: nf4, doubleQuantization: true }',
      'compute: bf16',
      'adapter: { type: lora, rank: 4, targets: all-linear }',
      `data: { train: { path: ${dev}, field: text }, eval: { path: ${dev}, field: text } }`,
      'training: { steps: 3, batch: 4, sequence: 64, learningRate: 1.0e-2 }',
    ].join('\n'),
  );
  const trained = await lorikeet(['train', recipe, '--out', out, '--json']);
  t.is(trained.code, 0, trained.stderr);
  const written = readFileSync(join(out, 'recipe.yaml'), 'utf8');
  t.regex(written, /dtype:\n {2}type: nf4\n {2}blockSize: 64\n {2}doubleQuantization: true\ncompute: bf16/);

  const adapter = lastJson(trained).adapter as string;
  const evaluated = await lorikeet([
    'evaluate',
    '--recipe',
    join(out, 'recipe.yaml'),
    '--max-length',
    '64',
    '--adapter',
    adapter,
    '--json',
  ]);
  t.is(evaluated.code, 0, evaluated.stderr);
  t.true(Math.abs((lastJson(evaluated).nll as number) - (lastJson(trained).evalLoss as number)) < 0.02);

  // Another dtype does not take over what the recipe computes in.
  const inFloats = await lorikeet(['evaluate', '--recipe', join(out, 'recipe.yaml'), '--max-length', '64', '--dtype', 'f32', '--json']);
  t.is(inFloats.code, 0, inFloats.stderr);

  const merged = join(folder, 'merged');
  const result = await lorikeet([
    'merge',
    '--model',
    shippedModel,
    '--adapter',
    adapter,
    '--dtype',
    'nf4',
    '--compute',
    'bf16',
    '--out',
    merged,
    '--json',
  ]);
  t.is(result.code, 0, result.stderr);
  t.true((lastJson(result).maxError as number) > 0);
  using model = await loadModel(merged);
  t.is(model.dtype, 'bf16');
});

test.serial('commands keep the blocks of a GGUF file', async (t) => {
  const model = join(goldenFolder, 'gguf', 'tiny-llama.gguf');
  const nll = async (...options: string[]) => {
    const result = await lorikeet(['evaluate', '--model', model, '--data', dev, '--max-length', '32', '--json', ...options]);
    t.is(result.code, 0, result.stderr);
    return lastJson(result).nll;
  };
  t.is(await nll('--dtype', 'stored'), await nll());
  t.is(await nll('--dtype', 'stored', '--compute', 'bf16'), await nll('--dtype', 'bf16'));
  const refused = await lorikeet(['evaluate', '--model', shippedModel, '--data', dev, '--dtype', 'stored']);
  t.is(refused.code, 1);
  t.regex(refused.stderr, /dtype "stored" keeps the blocks of a .gguf file/);
});
