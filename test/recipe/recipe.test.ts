import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { applySet, formatRecipe, parseRecipe, readRecipe } from '#dist/recipe.js';

const folder = mkdtempSync(join(tmpdir(), 'lorikeet-recipe-'));
test.after.always(() => rmSync(folder, { recursive: true }));

const minimal = { model: './m', data: { train: { path: 'a.jsonl' } } };

test('defaults are filled in, and the complete recipe reads back', (t) => {
  const recipe = parseRecipe(minimal);
  t.deepEqual(recipe.adapter, { type: 'lora' });
  t.like(recipe.training, {
    steps: 100,
    batch: 8,
    accumulate: 1,
    packing: false,
    shuffle: true,
    optimizer: 'adamw',
    learningRate: 2e-4,
    schedule: 'cosine',
    clip: 1,
    seed: 1,
  });
  const path = join(folder, 'full.yaml');
  writeFileSync(path, formatRecipe(recipe));
  t.deepEqual(readRecipe(path), recipe);
});

for (const [name, recipe, message] of [
  ['an unknown key', { ...minimal, modle: 'x' }, 'recipe: unknown key "modle"; did you mean "model"?'],
  [
    'an unknown training key',
    { ...minimal, training: { learning_rate: 1 } },
    'recipe: unknown key "learning_rate" in "training"; did you mean "learningRate"?',
  ],
  [
    'an unknown data key',
    { ...minimal, data: { train: { path: 'a', feild: 'x' } } },
    'recipe: unknown key "feild" in "data.train"; did you mean "field"?',
  ],
  ['a missing key', { data: minimal.data }, 'recipe: "model" is missing; expected a string'],
  ['a wrong type', { ...minimal, training: { steps: 'many' } }, 'recipe: "training.steps" is wrong; got "many", expected a number'],
  [
    'a fraction for a count',
    { ...minimal, training: { batch: 1.5 } },
    'recipe: "training.batch" is wrong; got 1.5, expected a whole number',
  ],
  ['a value below its range', { ...minimal, training: { steps: 0 } }, 'recipe: "training.steps" is wrong; got 0, expected more than 0'],
  [
    'an unknown word',
    { ...minimal, training: { schedule: 'cosin' } },
    'recipe: "training.schedule" is wrong; got "cosin", expected one of constant, linear, cosine, wsd, one-cycle; did you mean "cosine"?',
  ],
  [
    'an unknown dtype',
    { ...minimal, dtype: 'f31' },
    'recipe: "dtype" is wrong; got "f31", expected one of f32, bf16, f16, stored, nf4, int8; did you mean "f32"?',
  ],
  ['betas of a wrong length', { ...minimal, training: { betas: [0.9] } }, /"training\.betas(\.1)?" is/],
  ['an adapter without a type', { ...minimal, adapter: { rank: 4 } }, /"adapter\.type" is missing; expected a string/],
  ['packing', { ...minimal, training: { packing: true } }, /"training\.packing": true is not supported yet; use `packing: false`/],
  [
    'quantised activations',
    { ...minimal, dtype: 'int8', compute: 'int8' },
    'recipe: "compute": "int8" is not supported yet; use f32 or bf16: weights are kept in 8 bits by `dtype: int8`, activations are floats',
  ],
  [
    'an unknown compute',
    { ...minimal, dtype: 'nf4', compute: 'bf17' },
    'recipe: "compute" is wrong; got "bf17", expected one of f32, bf16; did you mean "bf16"?',
  ],
  [
    'compute without few bits',
    { ...minimal, dtype: 'bf16', compute: 'bf16' },
    'recipe: "compute" is wrong; got "bf16", expected dtype stored, nf4 or int8 beside it',
  ],
  [
    'an unknown nf4 option',
    { ...minimal, dtype: { type: 'nf4', blocksize: 64 } },
    'recipe: unknown key "blocksize" in "dtype"; did you mean "blockSize"?',
  ],
  [
    'an nf4 block of another size',
    { ...minimal, dtype: { type: 'nf4', blockSize: 48 } },
    'recipe: "dtype.blockSize" is wrong; got 48, expected a power of two from 32 to 4096',
  ],
  ['options of another dtype', { ...minimal, dtype: { type: 'int8' } }, 'recipe: "dtype.type" is wrong; got "int8", expected nf4'],
  ['early stopping', { ...minimal, training: { earlyStopping: { patience: 3 } } }, /"training\.earlyStopping".*not supported yet/],
] as const) {
  test(`${name} is refused by name`, (t) => {
    const error = t.throws(() => parseRecipe(recipe), { code: 'config' });
    if (typeof message === 'string') t.is(error?.message, message);
    else t.regex(error?.message ?? '', message);
  });
}

test('--set lays values over the recipe', (t) => {
  const recipe: Record<string, unknown> = structuredClone(minimal);
  applySet(recipe, 'training.steps=5');
  applySet(recipe, 'adapter={ type: lora, rank: 4 }');
  applySet(recipe, 'training.betas=[0.8, 0.9]');
  t.like(parseRecipe(recipe), { adapter: { rank: 4 }, training: { steps: 5, betas: [0.8, 0.9] } });
  t.throws(() => applySet(recipe, 'training.steps'), { message: /expected key\.path=value/ });
  t.throws(() => applySet(recipe, 'model.x=1'), { message: /"model" is not a map/ });
});

test('files: YAML errors name the line, duplicate keys are errors', (t) => {
  const path = join(folder, 'broken.yaml');
  writeFileSync(path, 'model: a\nmodel: b\n');
  t.throws(() => readRecipe(path), { message: /broken\.yaml:2: .*unique/i });
  writeFileSync(path, '- 1\n');
  t.throws(() => readRecipe(path), { message: /must be a map of keys/ });
  t.throws(() => readRecipe(join(folder, 'none.yaml')), { message: /cannot read/ });
});

test('paths are also looked for beside the recipe', (t) => {
  writeFileSync(join(folder, 'here.jsonl'), '{}');
  const path = join(folder, 'near.yaml');
  writeFileSync(path, 'model: some/hub-id\ndata: { train: { path: here.jsonl } }\n');
  const recipe = readRecipe(path);
  t.is(recipe.data.train.path, join(folder, 'here.jsonl'));
  t.is(recipe.model, 'some/hub-id');
});
