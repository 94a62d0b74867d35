// What cannot be read is refused with the row and what was expected, whatever the task and the call.
import test from 'ava';
import { attach, type EncoderModel, evaluate, loadModel, type PredictInput, type PredictOptions, train } from 'lorikeet';
import type { DataSources } from 'lorikeet/data';
import { goldenEncoder } from '../helpers/encoders.js';
import { tinyEncoder } from '../helpers/tiny-encoder.js';

const folder = tinyEncoder();
const models = {
  classes: await loadModel(folder, { task: 'classification', labels: ['pro', 'contra'] }),
  tags: await loadModel(folder, { task: 'token-classification', labels: ['O', 'X'] }),
  vectors: await loadModel(folder, { task: 'embedding' }),
  images: await loadModel(goldenEncoder('vit'), { task: 'classification', labels: 2 }),
  recordings: await loadModel(goldenEncoder('ast'), { task: 'classification', labels: 2 }),
} as const satisfies Record<string, EncoderModel>;
test.after.always(() => Object.values(models).forEach((model) => model.dispose()));

const values = (shape: readonly number[], size = shape.reduce((a, b) => a * b, 1)) => ({ values: new Float32Array(size), shape });
const broken = values([3, 16, 16]);
broken.values[7] = Number.NaN;
const good = { classes: 'good', tags: 'good', vectors: 'good', images: values([3, 16, 16]), recordings: values([48, 32]) } as const;

const kTexts = 'a text, a pair [first, second] or { words }';
const kWords = 'a list of words is { words: [...] }';
const kValues = 'expected the path of a file, or { values: Float32Array, shape }';

/** Which model, what it is given, and what the message says after the row. */
const examples: readonly (readonly [keyof typeof models, unknown, string, code?: string])[] = [
  ['classes', 5, `is no text; got 5, expected ${kTexts}`],
  ['classes', undefined, `is no text; got undefined, expected ${kTexts}`],
  ['classes', null, `is no text; got null, expected ${kTexts}`],
  ['classes', [], `is no text; got [], expected ${kTexts}; ${kWords}`],
  ['classes', ['one'], `is no text; got ["one"], expected ${kTexts}; ${kWords}`],
  ['classes', ['good', 'bad', 'film'], `is no text; got ["good","bad","film"], expected ${kTexts}; ${kWords}`],
  ['classes', ['good', 3], `is no text; got ["good",3], expected ${kTexts}`],
  ['classes', [['good'], ['bad']], `is no text; got [["good"],["bad"]], expected ${kTexts}`],
  ['classes', [2, 5, 3], `is no text; got [2,5,3], expected ${kTexts}`],
  ['classes', {}, `is no text; got an empty object, expected ${kTexts}`],
  ['classes', { text: 'good' }, `is no text; got an object with text, expected ${kTexts}`],
  ['classes', { words: 'good film' }, `is no text; got an object with words, expected ${kTexts}`],
  ['classes', { words: [1, 2] }, `is no text; got an object with words, expected ${kTexts}`],
  ['classes', values([3, 16, 16]), `is no text; got an object with values, shape, expected ${kTexts}`],
  ['classes', new Float32Array(3), `is no text; got a Float32Array, expected ${kTexts}`],
  ['tags', ['good', 'film'], `is no text; got ["good","film"], expected a text or { words }; ${kWords}`],
  ['tags', { tokens: ['good'] }, 'is no text; got an object with tokens, expected a text or { words }'],
  ['vectors', ['good', 'bad', 'film'], `is no text; got ["good","bad","film"], expected ${kTexts}; ${kWords}`],
  ['images', 5, `is no image; got 5, ${kValues}`],
  ['images', undefined, `is no image; got undefined, ${kValues}`],
  ['images', ['a.png', 'b.png'], `is no image; got ["a.png","b.png"], ${kValues}`],
  ['images', { pixels: [1] }, `is no image; got an object with pixels, ${kValues}`],
  ['images', { values: [1, 2], shape: [2] }, `is no image; got an object with values, shape, ${kValues}`],
  ['images', { values: new Float32Array(768), shape: '3x16x16' }, `is no image; got an object with values, shape, ${kValues}`],
  ['images', values([1, 16, 16]), 'has a wrong shape; got [1, 16, 16], expected [3, H, W]'],
  ['images', values([1, 3, 16, 16]), 'has a wrong shape; got [1, 3, 16, 16], expected [3, H, W]'],
  ['images', values([3, 0, 16]), 'has a wrong shape; got [3, 0, 16], expected [3, H, W]'],
  ['images', values([3, 16, 16], 5), 'has values that do not fill its shape; got 5 for [3, 16, 16], expected 768'],
  ['images', broken, 'has a value that is not finite; got NaN at 7, expected finite values'],
  ['images', 'nowhere.png', 'readImage: cannot read "nowhere.png"; ENOENT'],
  ['images', 'package.json', 'package.json: no image that can be read', 'format'],
  ['recordings', 5, `is no recording; got 5, ${kValues}`],
  ['recordings', values([48, 5]), 'has a wrong shape; got [48, 5], expected [T, 32]'],
  ['recordings', 'nowhere.wav', 'readWav: cannot read "nowhere.wav"; ENOENT'],
  ['recordings', 'package.json', 'package.json: no WAV file that can be read', 'format'],
];

for (const [number, [name, input, message, code = 'invalid-argument']] of examples.entries()) {
  test(`example ${number} of ${name}: ${message}`, async (t) => {
    const error = await t.throwsAsync(models[name].predict([good[name], input as PredictInput]), { code: code as 'format' });
    // Files are named behind a colon.
    t.true(error.message.replace('row 1:', 'row 1').startsWith(`predict: row 1 ${message}`), error.message);
  });
}

test('embed and models with adapters say the same', async (t) => {
  const words = ['good', 'bad', 'film'] as unknown as PredictInput;
  await t.throwsAsync(models.vectors.embed([words]), { code: 'invalid-argument', message: /^embed: row 0 is no text; got \["good"/ });
  const model = await loadModel(folder, { task: 'classification', labels: 2 });
  const tuned = await attach(model, { type: 'lora', rank: 2 });
  await t.throwsAsync(tuned.predict(['good', words]), { code: 'invalid-argument', message: /^predict: row 1 is no text; got \["good"/ });
  model.dispose();
});

test('no examples have no answers; what is no list is refused', async (t) => {
  t.deepEqual(await models.classes.predict([]), []);
  for (const inputs of ['good', undefined, null, 3, {}, new Set(['good'])])
    await t.throwsAsync(models.classes.predict(inputs as unknown as PredictInput[]), {
      code: 'invalid-argument',
      message: /^predict: examples must be a list; got .*, expected such as \["a text"\]/,
    });
});

test('batches and lengths that cannot be', async (t) => {
  const wrong = (options: object, message: RegExp) =>
    t.throwsAsync(models.classes.predict(['good'], options as PredictOptions), { code: 'invalid-argument', message });
  for (const batch of [0, -1, 1.5, Number.NaN, '8']) await wrong({ batch }, /^predict: "batch" must be a whole number of rows; got /);
  for (const maxLength of [0, 25, 2.5, 'x']) await wrong({ maxLength }, /^predict: "maxLength" must be .*; got .*, expected 1 to 24$/);
  await wrong({ maxLength: 2 }, /^predict: row 0: encode: 2 tokens have no room for the text; 2 are special ones$/);
  await t.throwsAsync(async () => evaluate(models.classes, { rows: [{ text: 'good', label: 'pro' }] }, { batch: 0 }), {
    code: 'invalid-argument',
    message: /^evaluate: "batch" must be a whole number of rows; got 0, expected at least 1/,
  });
});

/** Sources that say nothing of rows, or rows that do not fit, and what evaluating and training say of them. */
const sources: readonly (readonly [keyof typeof models, unknown, RegExp, code?: string])[] = [
  ['classes', null, /got null, expected \{ path \} or \{ rows/, 'config'],
  ['classes', 3, /got 3, expected \{ path \} or \{ rows/, 'config'],
  ['classes', 'rows.jsonl', /got "rows.jsonl", expected \{ path \} or \{ rows/, 'config'],
  ['classes', {}, /does not say where its rows are; got an empty object/, 'config'],
  ['classes', { rows: 3 }, /does not say where its rows are; got an object with rows/, 'config'],
  ['classes', { rows: 'good' }, /does not say where its rows are; got an object with rows/, 'config'],
  ['classes', { path: 3 }, /does not say where its rows are; got an object with path/, 'config'],
  ['classes', { rows: [], field: 3 }, /"field" must be a name; got 3, expected a text/, 'config'],
  ['classes', { rows: [], label: ['label'] }, /"label" must be a name; got \["label"\], expected a text/, 'config'],
  ['classes', { rows: [1, 2] }, /row 1: a row must be an object; got a number/],
  ['classes', { rows: [{ text: undefined, label: 'pro' }] }, /row 1: field "text" is undefined; got fields "text", "label"$/],
  ['classes', { rows: [{ text: ['good', 'bad'], label: 'pro' }] }, /row 1: field "text" is not text; got an array/],
  ['tags', { rows: [{ tokens: [['good']], tags: ['O'] }] }, /row 1: field "tokens" is not text; got an array/],
  ['images', { rows: [{ image: 3, label: 0 }] }, /row 1: field "image" is no image; got 3, expected the path of a file/],
  ['images', { rows: [{ image: values([1, 16, 16]), label: 0 }] }, /row 1: field "image" has a wrong shape; got \[1, 16, 16\]/],
  ['images', { rows: [{ image: values([3, 16, 16], 4), label: 0 }] }, /row 1: field "image" has values that do not fill its shape/],
  [
    'images',
    {
      rows: [
        { image: good.images, label: 0 },
        { image: broken, label: 1 },
      ],
    },
    /row 2: field "image" has a value that is not finite/,
  ],
  ['recordings', { rows: [{ audio: {}, label: 0 }] }, /row 1: field "audio" is no recording; got an empty object/],
];

for (const [number, [name, source, message, code = 'format']] of sources.entries()) {
  test.serial(`source ${number} of ${name}: ${message.source}`, async (t) => {
    const expected = { code: code as 'format', message };
    await t.throwsAsync(async () => evaluate(models[name], source as DataSources), expected);
    const tuned = await attach<'classification' | 'token-classification' | 'embedding'>(models[name], { type: 'bitfit' });
    const data = { train: source as DataSources };
    await t.throwsAsync(async () => train(tuned, { data, training: { steps: 1, batch: 2, sequence: 16 } }), expected);
    tuned.dispose();
  });
}

test.serial('train without rows', async (t) => {
  const tuned = await attach(models.classes, { type: 'bitfit' });
  for (const options of [undefined, {}, { data: {} }])
    t.throws(() => train(tuned, options as never), { code: 'config', message: /^train: there are no rows; got .*, expected \{ data/ });
  tuned.dispose();
});

test('what forward and loss cannot read', (t) => {
  const wrong = (model: EncoderModel, rows: unknown, message: RegExp) => {
    t.throws(() => model.forward(rows as never), { code: 'invalid-argument', message });
    t.throws(() => model.loss({ ...(rows as object), targets: [0] } as never), { code: 'invalid-argument', message });
  };
  wrong(models.classes, undefined, /^forward: the model reads text; got .*, expected "ids"/);
  wrong(models.classes, { ids: undefined }, /^forward: "ids" cannot be read; got undefined, expected lists of token ids/);
  wrong(models.classes, { ids: [2, 5, 3] }, /^forward: "ids" cannot be read; got \[2,5,3\], expected lists of token ids/);
  wrong(models.classes, { ids: ['good'] }, /^forward: "ids" cannot be read; got \["good"\]/);
  wrong(models.images, { pixels: [1] }, /^forward: "pixels" cannot be read; got \[1\], expected a tensor \[B, C, H, W\]/);
  wrong(models.recordings, { features: null }, /^forward: "features" cannot be read; got null, expected a tensor \[B, T, M\]/);
});
