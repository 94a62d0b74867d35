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
  [
    'an unknown key of a source in a list',
    { ...minimal, data: { train: [{ path: 'a.txt' }, { path: 'b.txt', wieght: 2 }] } },
    'recipe: unknown key "wieght" in "data.train.1"; did you mean "weight"?',
  ],
  [
    'a source that is no map',
    { ...minimal, data: { train: 'a.jsonl' } },
    'recipe: "data.train" is wrong; got "a.jsonl", expected a map such as { path: notes.jsonl }, or a list of such maps',
  ],
  ['an empty list of sources', { ...minimal, data: { train: [] } }, /"data\.train" is wrong/],
  [
    'a policy for bad rows',
    { ...minimal, data: { train: { path: 'a.txt' }, badRows: 'skp' } },
    'recipe: "data.badRows" is wrong; got "skp", expected one of error, skip; did you mean "skip"?',
  ],
  [
    'early stopping without held-out rows',
    { ...minimal, training: { earlyStopping: { patience: 3 } } },
    'recipe: "training.earlyStopping" is wrong; got {"patience":3}, expected "data.eval" beside it',
  ],
  [
    'answers without held-out rows',
    { ...minimal, evaluation: { answers: { kind: 'truth' } } },
    /"evaluation\.answers" is wrong; .* expected "data\.eval" beside it$/,
  ],
  [
    'answers of an encoder',
    { ...minimal, task: 'classification', data: { ...minimal.data, eval: { path: 'b' } }, evaluation: { answers: { kind: 'truth' } } },
    /"evaluation\.answers" is wrong; .* expected a language model; an encoder with a task writes no text$/,
  ],
  [
    'an unknown kind of answers',
    { ...minimal, evaluation: { answers: { kind: 'truths' } } },
    /^recipe: "evaluation\.answers\.kind" is wrong; got "truths", expected one of number, .* did you mean "truth"\?$/,
  ],
  [
    'an unknown key of answers',
    { ...minimal, evaluation: { answers: { kind: 'truth', maxTokens: 3 } } },
    /^recipe: unknown key "maxTokens" in "evaluation\.answers"/,
  ],
  [
    'a length penalty without beams',
    { ...minimal, evaluation: { answers: { kind: 'truth', lengthPenalty: 2 } } },
    'recipe: "evaluation.answers.lengthPenalty" is wrong; got 2, expected it only with beams above 1',
  ],
  [
    'stop texts beside beams',
    { ...minimal, evaluation: { answers: { kind: 'truth', beams: 2, stop: ['x'] } } },
    'recipe: "evaluation.answers.stop" is wrong; got ["x"], expected none with beams above 1',
  ],
  [
    'a patience of 0',
    { ...minimal, training: { earlyStopping: { patience: 0 } } },
    'recipe: "training.earlyStopping.patience" is wrong; got 0, expected more than 0',
  ],
  [
    'a key of another optimizer',
    { ...minimal, training: { optimizer: 'lion', eps: 1e-6 } },
    'recipe: "training.eps" is wrong; got 0.000001, expected it only with optimizer adamw or adamw-8bit; the optimizer is lion',
  ],
  [
    'a learning rate beside relative steps',
    { ...minimal, training: { optimizer: 'adafactor', adafactor: { relativeStep: true } } },
    'recipe: "training.learningRate" is missing; expected 1 with adafactor.relativeStep, which finds the rate itself',
  ],
  [
    'a warm-up of relative steps without them',
    { ...minimal, training: { optimizer: 'adafactor', adafactor: { warmupInit: true } } },
    /"training\.adafactor" is wrong; .* expected relativeStep: true beside warmupInit/,
  ],
  [
    'options of Adafactor for another optimizer',
    { ...minimal, training: { adafactor: { scaleParameter: true } } },
    /"training\.adafactor" is wrong; .* expected it only with optimizer adafactor; the optimizer is adamw/,
  ],
  [
    'a key of another schedule',
    { ...minimal, training: { decayShare: 0.5 } },
    'recipe: "training.decayShare" is wrong; got 0.5, expected it only with schedule wsd; the schedule is cosine',
  ],
  [
    'an unknown policy',
    { ...minimal, training: { policy: { nonFinite: 'skp' } } },
    'recipe: "training.policy.nonFinite" is wrong; got "skp", expected one of stop, skip; did you mean "skip"?',
  ],
  [
    'an unknown key of the policy',
    { ...minimal, training: { policy: { nonFinit: 'skip' } } },
    'recipe: unknown key "nonFinit" in "training.policy"; did you mean "nonFinite"?',
  ],
  ['a policy at the top', { ...minimal, policy: { nonFinite: 'skip' } }, /"policy": .* is not supported yet; write `training\.policy`/],
  [
    'an unknown compute',
    { ...minimal, dtype: 'nf4', compute: 'bf17' },
    'recipe: "compute" is wrong; got "bf17", expected one of f32, bf16, int8; did you mean "bf16"?',
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
  t.throws(() => readRecipe(path), { message: /broken\.yaml:2:1: .*unique/i });
  writeFileSync(path, '- 1\n');
  t.throws(() => readRecipe(path), { message: /must be a map of keys/ });
  t.throws(() => readRecipe(join(folder, 'none.yaml')), { message: /cannot read/ });
});

test('paths are also looked for beside the recipe', (t) => {
  writeFileSync(join(folder, 'here.jsonl'), '{}');
  const path = join(folder, 'near.yaml');
  writeFileSync(path, 'model: some/hub-id\ndata: { train: { path: here.jsonl } }\n');
  const recipe = readRecipe(path);
  t.like(recipe.data.train, { path: join(folder, 'here.jsonl') });
  t.is(recipe.model, 'some/hub-id');
});
