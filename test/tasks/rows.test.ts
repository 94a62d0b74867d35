import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type EncoderTask, FormatError, type FrontEnd, InvalidArgumentError, loadModel } from 'lorikeet';
import { type DataSource, type DataSources, exampleOf } from 'lorikeet/data';
import { collateInputs, encodeInput } from '#dist/data/encoder-input.js';
import type { TaskModel } from '#dist/task-model.js';
import { taskOf } from '#dist/tasks/registry.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { tinyEncoder } from '../helpers/tiny-encoder.js';

const folder = tinyEncoder();
const files = temporaryFolder();

const models = {
  classification: await loadModel(folder, { task: 'classification', labels: ['contra', 'pro'] }),
  regression: await loadModel(folder, { task: 'regression', labels: 2 }),
  'token-classification': await loadModel(folder, { task: 'token-classification', labels: ['O', 'X'] }),
  'masked-lm': await loadModel(folder, { task: 'masked-lm' }),
} as const satisfies { [T in EncoderTask]?: TaskModel<T> };
test.after.always(() => Object.values(models).forEach((model) => model.dispose()));

const rowsOf = async (task: keyof typeof models, source: DataSources, options: object = {}) => {
  const set = await taskOf(models[task]).open(source, { sequence: 24, ...options });
  return set.rows([...new Array(set.length).keys()]);
};
const wrong =
  (task: keyof typeof models, source: object, message: RegExp, code = 'format') =>
  async (t: ExecutionContext) => {
    await t.throwsAsync(rowsOf(task, source as DataSources), { code: code as 'format', message });
  };

test('labels are names of the model, numbers, or numbers of the names of the source', async (t) => {
  const targets = async (source: object) => (await rowsOf('classification', source as DataSources)).map((row) => row.target);
  const rows = [
    { text: 'good', label: 'pro' },
    { text: 'bad', label: 0 },
    { text: 'bad', label: '1' },
  ];
  t.deepEqual(await targets({ rows }), [1, 0, 1]);
  t.deepEqual(
    await targets({
      rows: rows.map(({ text, label }) => ({ q: text, stars: label })),
      field: 'q',
      label: 'stars',
      labels: ['pro', 'contra'],
    }),
    [1, 1, 0],
  );
  writeFileSync(join(files, 'rows.csv'), 'text,label\ngood,1\nbad,contra\n');
  t.deepEqual(await targets({ path: join(files, 'rows.csv') }), [1, 0]);
  t.deepEqual(await targets({ path: join(files, 'rows.csv'), streaming: true }), [1, 0]);
});

test(
  'a label that is none',
  wrong(
    'classification',
    { rows: [{ text: 'a', label: 2 }] },
    /row 1: field "label" is no label; got 2, expected 0 to 1 or one of contra, pro/,
  ),
);
test(
  'a label of the source that the model lacks',
  wrong(
    'classification',
    { rows: [], labels: ['pro', 'contr'] },
    /label "contr" is none of the model's; did you mean "contra"|label "contr"/,
    'config',
  ),
);
test('labels that are digits are names first, as numbers and as text', async (t) => {
  const model = await loadModel(folder, { task: 'classification', labels: ['1', '2', '5'] });
  const rows = [1, '1', 2n, '5'].map((label) => ({ text: 'good', label }));
  const set = await taskOf(model).open({ rows }, { sequence: 24 });
  t.deepEqual(
    (await set.rows([0, 1, 2, 3])).map((row) => row?.target),
    [0, 0, 1, 2],
  );
  model.dispose();
});
test(
  'a label that is a bigint',
  wrong('classification', { rows: [{ text: 'a', label: [7n] }] }, /field "label" is no label; got \["7"\], expected 0 to 1/),
);
test('values that are bigints', async (t) => {
  const [row] = await rowsOf('regression', { rows: [{ text: 'a', label: [7n, 1] }] });
  t.deepEqual(row?.target, [7, 1]);
  await t.throwsAsync(rowsOf('regression', { rows: [{ text: 'a', label: [7n] }] }), {
    message: /field "label" is no value to learn; got \["7"\]/,
  });
});
test('a row without its label', wrong('classification', { rows: [{ text: 'a' }] }, /no field "label"/));
test(
  'values of a regression',
  wrong(
    'regression',
    { rows: [{ text: 'a', label: [1] }] },
    /field "label" is no value to learn; got \[1\], expected a list of 2 finite numbers/,
  ),
);
test(
  'tags that are too few',
  wrong('token-classification', { rows: [{ tokens: ['a', 'b'], tags: ['O'] }] }, /must have a tag for every word; got 1, expected 2/),
);
test(
  'fields of language models',
  wrong(
    'classification',
    { rows: [], prompt: 'a', completion: 'b' },
    /"prompt" is not read for task "classification" of a model of text; expected field, field2, label, labels/,
    'config',
  ),
);
test('fields of other tasks', wrong('masked-lm', { rows: [], label: 'x' }, /"label" is not read for task "masked-lm"/, 'config'));

test('language models refuse fields of tasks', (t) => {
  t.throws(() => exampleOf({ field: 'text', label: 'label' } as DataSource), {
    code: 'config',
    message: /"label" is for encoders with a task/,
  });
});

test('the first token of each word is tagged; words that are cut off are not', async (t) => {
  const rows = [
    { tokens: ['good', 'abc', 'film'], tags: ['O', 'X', 1] },
    { tokens: 'good abc', tags: 'O X' },
  ];
  const [first, second] = await rowsOf('token-classification', { rows });
  t.deepEqual(first?.input.words, [-1, 0, 1, 1, 1, 2, -1]);
  t.deepEqual(first?.target, [-100, 0, 1, -100, -100, 1, -100]);
  t.deepEqual(second?.target, [-100, 0, 1, -100, -100, -100]);
  const [cut] = await rowsOf('token-classification', { rows }, { sequence: 5 });
  t.deepEqual(cut?.target, [-100, 0, 1, -100, -100]);
  t.is(cut?.input.ids.at(-1), 3);
});

test('texts and pairs keep their special tokens when they are cut; of a pair the longer one loses first', async (t) => {
  const { tokenizer } = models.classification;
  const whole = await encodeInput(tokenizer, ['a b c d e f', 'g h'], 24);
  t.deepEqual(whole.ids.length, 11);
  t.deepEqual(whole.tokenTypes, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1]);
  const cut = await encodeInput(tokenizer, ['a b c d e f', 'g h'], 8);
  t.deepEqual(
    [cut.ids, cut.tokenTypes],
    [
      [2, 5, 6, 7, 3, 11, 12, 3],
      [0, 0, 0, 0, 0, 1, 1, 1],
    ],
  );
  const even = await encodeInput(tokenizer, ['a b c d', 'g h i j'], 8);
  t.deepEqual(even.ids, [2, 5, 6, 3, 11, 12, 13, 3]);
  const single = await encodeInput(tokenizer, 'a b c d e f', 4);
  t.deepEqual([single.ids, single.tokenTypes], [[2, 5, 6, 3], undefined]);
  await t.throwsAsync(encodeInput(tokenizer, 'a b', 2), {
    code: 'invalid-argument',
    message: /2 tokens have no room for the text; 2 are special ones/,
  });
});

test('bad rows are left out and counted; rows without words are nothing to learn', async (t) => {
  const task = taskOf(models['masked-lm']);
  const set = await task.open({ rows: [{ text: 'good' }, { txt: 'x' }, { text: '' }] }, { sequence: 24, badRows: 'skip' });
  t.is(set.length, 1);
  t.is(set.skipped.count, 2);
  t.regex(set.skipped.first[1] ?? '', /row 3: nothing to learn; got no words/);
});

test('files are read beside the rows that name them, when they are asked for, once', async (t) => {
  const read: string[] = [];
  const processor: FrontEnd = {
    name: 'stub',
    async read(file) {
      read.push(file);
      if (file.endsWith('missing.png')) throw new InvalidArgumentError(`readImage: cannot read "${file}"`);
      if (file.endsWith('broken.png')) throw new FormatError(`${file}: is no image`);
      return { values: new Float32Array([1, 2, 3, 4]), shape: [1, 2, 2] };
    },
  };
  const model = { ...bareModel('image'), processor } as unknown as TaskModel;
  mkdirSync(join(files, 'pictures'));
  const rows = ['a.png', 'broken.png', 'b.png', 'a.png', 'missing.png', 'c.png', 'c.png'].map((image, index) => ({
    image,
    label: index % 2,
  }));
  writeFileSync(join(files, 'pictures', 'rows.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  const source = { path: join(files, 'pictures', 'rows.jsonl') };
  const set = await taskOf(model).open(source, { sequence: 24 });
  t.deepEqual([set.length, read.length], [7, 0]);
  await t.throwsAsync(set.rows([0, 1]), { code: 'format', message: /rows\.jsonl:2: .*broken\.png: is no image/ });
  const skipping = await taskOf(model).open(source, { sequence: 24, badRows: 'skip' });
  read.length = 0;
  const found = await skipping.rows([0, 1, 2]);
  await skipping.rows([3]);
  t.deepEqual(
    read,
    ['a.png', 'broken.png', 'b.png'].map((name) => join(files, 'pictures', name)),
  );
  await t.throwsAsync(set.rows([4]), { code: 'format', message: /rows\.jsonl:5: .*missing\.png/ });
  read.length = 0;
  t.deepEqual(
    (await skipping.rows([4, 5, 6])).map((row) => row?.target),
    [undefined, 1, 0],
  );
  t.deepEqual(
    read,
    ['missing.png', 'c.png'].map((name) => join(files, 'pictures', name)),
  );
  t.deepEqual([found[0]?.input.shape, found[1], found[2]?.target], [[1, 2, 2], undefined, 0]);
  t.is(skipping.skipped.count, 2);
  const batch = collateInputs('image', [found[0].input, found[2].input]);
  t.deepEqual('pixels' in batch && batch.pixels.shape, [2, 1, 2, 2]);
  t.throws(() => collateInputs('image', [found[0].input, { values: new Float32Array(1), shape: [1, 1, 1] }]), {
    code: 'format',
    message: /must have one shape/,
  });
  await t.throwsAsync((await taskOf(bareModel('image') as unknown as TaskModel).open(source, { sequence: 24 })).rows([0]), {
    code: 'config',
    message: /no front end for image came with/,
  });
});

const bareModel = (modality: string): object => ({
  network: { modality, shape: { contextLength: 5 } },
  task: 'classification',
  labels: ['a', 'b'],
  source: 'a folder',
});
