import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { attach, loadModel, train } from 'lorikeet';
import { parseRecipe, type RecipeInput, readRecipe } from '#dist/recipe.js';
import { sourcesOf } from '#dist/recipe-source.js';
import { trainingSettings } from '#dist/train/options.js';
import { runRecipe } from '#dist/train/run-recipe.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { shippedModel, shippedRows, withTuned } from '../helpers/shipped.js';

test('recipe.yaml of a run says how the base was loaded', async (t) => {
  const out = join(temporaryFolder(), 'run');
  using model = await loadModel(shippedModel, { dtype: 'int8', compute: 'bf16' });
  const tuned = await attach(model, { type: 'lora', rank: 2 }, { seed: 1 });
  const rows = shippedRows(4).map((text) => ({ text }));
  await train(tuned, { data: { train: { rows, field: 'text' } }, training: { steps: 1, batch: 2, sequence: 16 }, out });
  t.regex(readFileSync(join(out, 'recipe.yaml'), 'utf8'), /^dtype: int8\ncompute: bf16$/m);
  tuned.dispose();
});

const source = { path: 'one.jsonl', field: 'text' };
const lora = { type: 'lora', rank: 4, targets: ['q_proj', 'v_proj'] };

const recipes: Readonly<Record<string, Omit<RecipeInput, 'model'>>> = {
  defaults: { dtype: 'f32', data: { train: source } },
  'all of a source': {
    dtype: 'f32',
    data: {
      train: [
        { path: 'a.txt', field: 'text', separator: '\n\n', weight: 2 },
        { path: 'b.jsonl', prompt: 'Q: {question}\nA:', completion: ' {answer}', labels: ['yes', 'no: "never"', '3', ''], weight: 0.5 },
        { path: 'c.jsonl', messages: 'messages', tools: 'tools', learn: 'last', weight: 1e-7, streaming: true },
      ],
      eval: [{ path: 'd.csv', field: 'null' }],
      badRows: 'skip',
    },
  },
  int8: { dtype: 'bf16', compute: 'int8', data: { train: source } },
  nf4: { dtype: { type: 'nf4', blockSize: 128, doubleQuantization: true }, compute: 'bf16', data: { train: source } },
  'policy and early stopping': {
    dtype: 'bf16',
    data: { train: source, eval: source },
    training: {
      policy: { nonFinite: 'skip', lossSpike: 'warn', spikeFactor: 2.5, spikeWindow: 7 },
      earlyStopping: { patience: 2, minDelta: 1e-3 },
      memory: 'ignore',
      emptyRows: 'skip',
    },
  },
  lion: { dtype: 'f32', data: { train: source }, training: { optimizer: 'lion', betas: [0.95, 0.98], loraPlusRatio: 16, clip: 0 } },
  adafactor: {
    dtype: 'f32',
    data: { train: source },
    training: {
      optimizer: 'adafactor',
      learningRate: 1,
      adafactor: { relativeStep: true, warmupInit: true, beta1: 0.9, eps: [1e-20, 0.01] },
    },
  },
  sgd: { dtype: 'f32', data: { train: source }, training: { optimizer: 'sgd', momentum: 0, schedule: 'constant', packing: true } },
  'adamw-8bit': {
    dtype: 'f32',
    data: { train: source },
    training: { optimizer: 'adamw-8bit', eps: 1e-12, schedule: 'wsd', decayShare: 0.3, minimumRate: 0.1, lengthGrouped: true },
  },
  report: {
    dtype: 'f32',
    data: { train: source },
    report: { samples: ['# no comment: "really"?', `  ${'long words '.repeat(40)}\n\nend  `, 'true'], temperature: 0.5, chat: true },
    out: 'runs/a b: c',
  },
};

for (const [name, input] of Object.entries(recipes)) {
  test(`recipe.yaml is read as what was run: ${name}`, (t) =>
    withTuned(async (tuned) => {
      const file = join(temporaryFolder(), 'recipe.yaml');
      const recipe = parseRecipe({ model: shippedModel, adapter: lora, ...input });
      const settings = trainingSettings(tuned, recipe.training);
      const written = ({ data, report, out, ...rest }: typeof recipe): string => {
        const sources = {
          train: sourcesOf(data.train),
          ...(data.eval === undefined ? {} : { eval: sourcesOf(data.eval) }),
          badRows: data.badRows,
        };
        return runRecipe({ data: sources, report, out, recipe: rest }, settings, tuned);
      };
      const text = written(recipe);
      writeFileSync(file, text);
      const read = readRecipe(file);
      t.deepEqual(read, JSON.parse(JSON.stringify({ ...recipe, device: 'cpu', training: settings })));
      t.is(written(read), text);
    }));
}
