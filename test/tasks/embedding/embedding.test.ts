import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import {
  attach,
  ConfigError,
  calibrationBatches,
  type EmbeddingLossOptions,
  evaluate,
  FormatError,
  loadModel,
  multipleNegativesLoss,
  saveModel,
  scope,
  type Tensor,
  type TrainOptions,
  train,
} from 'lorikeet';
import { tensor } from 'lorikeet/ops';
import { dataFolder } from '../../helpers/folders.js';
import { near } from '../../helpers/numbers.js';
import { tinyEncoder } from '../../helpers/tiny-encoder.js';

const folder = tinyEncoder();
// So few hidden values do not bear dropout.
const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as object;
writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...config, hidden_dropout_prob: 0, attention_probs_dropout_prob: 0 }));

const open = () => loadModel(folder, { task: 'embedding' });
const adapter = { type: 'lora', rank: 16, alpha: 32, targets: 'all-linear' } as const;

// Eight first and six second words with a translation each: `a i` means `o w`. A part of the combinations is held out.
const source = [...'abcdefghijklmn'];
const target = [...'opqrstuvwxyz', 'good', 'bad'];
const translations = new Map(source.map((word, place) => [word, target[place] as string]));
const phrases = Array.from({ length: 48 }, (_, index) => [index % 8, 8 + Math.floor(index / 8)] as const);
const pair = (places: readonly number[]) => ({
  anchor: places.map((place) => source[place]).join(' '),
  positive: places.map((place) => target[place]).join(' '),
});
const isHeld = (index: number): boolean => (index % 8) + Math.floor(index / 8) === 7 || index % 11 === 5;
const pairs = phrases.filter((_, index) => !isHeld(index)).map(pair);
const held = phrases.filter((_, index) => isHeld(index)).map(pair);

/** In each of two wrong translations one word is right. */
const triplets = phrases.flatMap(([first, second], index) => {
  const wrong = [
    [(first + 1) % 8, second],
    [first, 8 + ((second - 7) % 6)],
  ].map((places) => pair(places).positive);
  return isHeld(index) ? [] : [{ ...pair([first, second]), negative: wrong }];
});

/** Pairs with the part of the words that is the translation. */
const scored = (rows: readonly { anchor: string; positive: string }[]) =>
  rows.flatMap(({ anchor }, index) =>
    [0, 1, 3].map((by) => {
      const positive = rows[(index + by) % rows.length]?.positive ?? '';
      const right = anchor.split(' ').filter((word, place) => positive.split(' ')[place] === translations.get(word)).length;
      return { anchor, positive, score: right / 2 };
    }),
  );

const training = (steps: number, loss?: EmbeddingLossOptions) =>
  ({ steps, batch: 12, learningRate: 3e-3, evalEvery: 0, ...(loss && { loss }) }) as const;

const runs: readonly (readonly [string, EmbeddingLossOptions, TrainOptions['data'], string])[] = [
  ['multiple negatives', { symmetric: true }, { train: { rows: pairs }, eval: { rows: held } }, 'ndcg@10'],
  [
    'hard negatives and narrow embeddings',
    { dimensions: [16, 8] },
    { train: { rows: triplets, negative: 'negative' }, eval: { rows: held } },
    'ndcg@10-8',
  ],
  ['triplets', { type: 'triplet', distance: 'cosine' }, { train: { rows: triplets }, eval: { rows: triplets.slice(0, 20) } }, 'ndcg@10'],
  ['cosine', { type: 'cosine' }, { train: { rows: scored(pairs) }, eval: { rows: scored(held) } }, 'spearman'],
  ['CoSENT', { type: 'cosent' }, { train: { rows: scored(pairs) }, eval: { rows: scored(held) } }, 'spearman'],
];

for (const [name, loss, data, metric] of runs) {
  test.serial(`training with ${name} makes held-out embeddings better`, async (t) => {
    const model = await open();
    const tuned = await attach(model, adapter, { seed: 1 });
    const before = await evaluate(tuned, data.eval as TrainOptions['data']['train'], { loss });
    await train(tuned, { data, training: training(100, loss) });
    const after = await evaluate(tuned, data.eval as TrainOptions['data']['train'], { loss });
    t.true(after.loss < 0.9 * before.loss, `loss ${before.loss} to ${after.loss}`);
    const [was, is] = [before.metrics[metric] ?? Number.NaN, after.metrics[metric] ?? Number.NaN];
    t.true(is > was + 0.1, `${metric} ${was} to ${is}`);
    t.deepEqual(Object.keys(after.metrics), Object.keys(before.metrics));
    tuned.dispose();
    model.dispose();
  });
}

test.serial('an evaluation does not depend on its batches, and its loss is that of the embeddings', async (t) => {
  const model = await open();
  const results = await Promise.all([1, 5, 64].map((batch) => evaluate(model, { rows: held }, { batch })));
  t.deepEqual(results[1], results[0]);
  t.deepEqual(results[2], results[0]);
  const [anchors, positives] = await Promise.all(
    (['anchor', 'positive'] as const).map((side) => model.embed(held.map((row) => row[side]))),
  );
  const matrix = (rows: readonly Float32Array[] | undefined): Tensor => tensor((rows ?? []).map((row) => Array.from(row)));
  const loss = await scope(() => multipleNegativesLoss(matrix(anchors), matrix(positives)).item());
  t.true(Math.abs((results[0]?.loss ?? 0) - loss) < 1e-5);
  t.is(results[0]?.targets, held.length);
  model.dispose();
});

test.serial('texts that are right for an anchor are never its negatives', async (t) => {
  const model = await open();
  const once = pairs.slice(0, 2);
  const twice = [...once, pairs[0] as (typeof pairs)[number]];
  const [alone, doubled] = await Promise.all([once, twice].map((rows) => evaluate(model, { rows })));
  const losses = [await lossOfRow(0), await lossOfRow(1)] as const;
  t.true(Math.abs((alone?.loss ?? 0) - (losses[0] + losses[1]) / 2) < 1e-5);
  t.true(Math.abs((doubled?.loss ?? 0) - lossOfDoubled(losses)) < 1e-5);
  t.is(doubled?.metrics['recall@10'], 1);
  model.dispose();

  async function lossOfRow(row: number): Promise<number> {
    const [own, other] = [once[row], once[1 - row]];
    const vectors = await model.embed([own?.anchor, own?.positive, other?.positive].map((text) => text ?? ''));
    const cosine = (a: Float32Array, b: Float32Array): number => {
      const dot = (x: Float32Array, y: Float32Array): number => x.reduce((sum, value, d) => sum + value * (y[d] ?? 0), 0);
      return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
    };
    const [anchor, right, wrong] = vectors as [Float32Array, Float32Array, Float32Array];
    return Math.log1p(Math.exp(20 * (cosine(anchor, wrong) - cosine(anchor, right))));
  }
});

/** The first row is there twice, and does not count against itself; for the second it counts twice. */
function lossOfDoubled([first, second]: readonly [number, number]): number {
  return (2 * first + Math.log1p(2 * Math.expm1(second))) / 3;
}

test.serial('the rows of a batch are compared with one another, whatever their lengths', async (t) => {
  const model = await open();
  const tuned = await attach(model, adapter, { seed: 1 });
  const mixed = Array.from({ length: 24 }, (_, row) => ({
    anchor: source.slice(row % 7, (row % 7) + 1 + (row % 5)).join(' '),
    positive: target.slice(0, 1 + ((5 * row) % 14)).join(' '),
  }));
  for (const rows of [pairs.slice(0, 8), mixed]) {
    // Adapters begin as the identity.
    const { loss: expected } = await evaluate(model, { rows });
    const run = train(tuned, { data: { train: { rows } }, training: { ...training(1), batch: rows.length, learningRate: 1e-9 } });
    for await (const { loss, tokens } of run) {
      t.true(Math.abs(loss - expected) < 1e-5, `${loss} beside ${expected}`);
      const words = rows.flatMap(({ anchor, positive }) => [anchor, positive]).map((text) => text.split(' ').length + 2);
      t.is(
        tokens,
        words.reduce((a, b) => a + b, 0),
      );
    }
  }
  tuned.dispose();
  model.dispose();
});

const wrong: readonly (readonly [string, EmbeddingLossOptions | undefined, object, RegExp, typeof ConfigError | typeof FormatError])[] = [
  [
    'a score that is not read',
    undefined,
    { rows: pairs, score: 'score' },
    /"score" is not read by the loss multiple-negatives/,
    ConfigError,
  ],
  [
    'a negative that is not read',
    { type: 'cosine' },
    { rows: triplets, negative: 'negative' },
    /"negative" is not read by the loss cosine/,
    ConfigError,
  ],
  ['triplets of two', { type: 'triplet' }, { rows: pairs }, /row 1: no field "negative"/, FormatError],
  [
    'an empty list of negatives',
    { type: 'triplet' },
    { rows: [{ ...pairs[0], negative: [] }] },
    /row 1: field "negative" is an empty list/,
    FormatError,
  ],
  [
    'a score that is no number',
    { type: 'cosent' },
    { rows: [{ ...pairs[0], score: 'high' }] },
    /row 1: field "score" is no score; got "high"/,
    FormatError,
  ],
  ['a text without words', undefined, { rows: [{ anchor: 'a', positive: '' }] }, /got a text without words/, FormatError],
  [
    'fields of other tasks',
    undefined,
    { rows: pairs, label: 'label' },
    /"label" is not read for task "embedding".*anchor, positive, negative, score/,
    ConfigError,
  ],
  [
    'an option of another loss',
    { type: 'cosine', scale: 5 },
    { rows: pairs },
    /"training.loss.scale".*only with loss multiple-negatives or cosent/,
    ConfigError,
  ],
  ['weights without dimensions', { weights: [1] }, { rows: pairs }, /"training.loss.weights".*one for each of "dimensions"/, ConfigError],
  [
    'an unknown loss',
    { type: 'infonce' as 'cosine' },
    { rows: pairs },
    /"training.loss.type".*expected one of multiple-negatives, triplet, cosine, cosent/,
    ConfigError,
  ],
  [
    'more dimensions than there are',
    { dimensions: [32] },
    { rows: pairs },
    /dimensions must be whole numbers from 1 to 16; got 32/,
    ConfigError,
  ],
];

for (const [name, loss, source, message, instanceOf] of wrong) {
  test.serial(`${name} is an error`, async (t) => {
    const model = await open();
    const tuned = await attach(model, adapter);
    const data = { train: source as TrainOptions['data']['train'] };
    await t.throwsAsync(async () => train(tuned, { data, training: training(1, loss) }), { instanceOf, message });
    tuned.dispose();
    model.dispose();
  });
}

test.serial('a loss needs rows to compare and a model that makes embeddings', async (t) => {
  const model = await open();
  const tuned = await attach(model, adapter);
  const data = { train: { rows: pairs } };
  t.throws(() => train(tuned, { data, training: { batch: 1 } }), {
    instanceOf: ConfigError,
    message: /compares the rows of a batch; got 1/,
  });
  tuned.dispose();
  model.dispose();
  const other = await loadModel(folder, { task: 'classification', labels: 2 });
  const classifier = await attach(other, adapter);
  t.throws(() => train(classifier, { data, training: { loss: {} } }), {
    instanceOf: ConfigError,
    message: /"loss" is for task "embedding"; got task "classification"/,
  });
  t.throws(() => evaluate(other, { rows: pairs }, { loss: {} }), { instanceOf: ConfigError });
  classifier.dispose();
  other.dispose();
});

test.serial('a run goes on with the bits of one that was not cut, and not with another loss', async (t) => {
  const out = join(folder, 'run');
  const data = { train: { rows: pairs } };
  const results: number[][] = [];
  for (const parts of [[6], [3, 6]]) {
    rmSync(out, { recursive: true, force: true });
    for (const [index, steps] of parts.entries()) {
      const model = await open();
      const tuned = await attach(model, adapter, { seed: 1 });
      const options = { data, out, resume: index > 0, training: { ...training(steps), schedule: 'constant' } } as const;
      if (index > 0)
        await t.throwsAsync(async () => train(tuned, { ...options, training: { ...options.training, loss: { scale: 10 } } }), {
          instanceOf: ConfigError,
          message: /training.loss differs/,
        });
      await train(tuned, options);
      const values = await Promise.all([...tuned.namedParameters()].map(([, value]) => value.data()));
      results[parts.length - 1] = values.flatMap((value) => Array.from(value as Float32Array));
      tuned.dispose();
      model.dispose();
    }
  }
  t.deepEqual(results[1], results[0]);
});

test.serial('initialisations look at all texts of pairs, and at their loss', async (t) => {
  const model = await open();
  const texts = held.map(({ anchor }) => anchor);
  const expected = await model.embed(texts);
  const data = await calibrationBatches(model, { rows: triplets, negative: 'negative' }, { batches: 2, batchSize: 4 });
  const [rows] = [...(data.batches as Iterable<unknown>)];
  t.deepEqual(
    scope(() => (data.forward(rows as never, false) as Tensor).shape),
    [16, 16],
  );
  t.is(data.counts?.(rows as never, false)?.filter(Boolean).length, 16 * 4);
  for (const init of ['eva', 'lora-ga'] as const) {
    const tuned = await attach(model, { type: 'lora', rank: 4, targets: ['query', 'value'], init }, { data });
    for (const [row, values] of (await tuned.embed(texts)).entries()) near(t, values, expected[row] ?? [], 1e-4, `${init}, row ${row}`);
    await train(tuned, { data: { train: { rows: pairs } }, training: training(1) });
    tuned.dispose();
  }
  model.dispose();
});

test.serial('a merged model is saved as a folder of sentence-transformers', async (t) => {
  const model = await loadModel(folder, { task: 'embedding', pooling: { mode: ['cls', 'mean'], normalize: true } });
  const tuned = await attach(model, adapter, { seed: 1 });
  await train(tuned, { data: { train: { rows: pairs } }, training: training(2) });
  const texts = held.map(({ anchor }) => anchor);
  const expected = await tuned.embed(texts);
  await tuned.merge();
  const saved = join(folder, 'saved');
  await saveModel(model, saved);
  tuned.dispose();
  model.dispose();
  const again = await loadModel(saved, { task: 'published' });
  t.is(again.task, 'embedding');
  const got = await again.embed(texts);
  for (const [row, values] of expected.entries()) near(t, got[row] ?? [], values, 1e-5, `row ${row}`);
  again.dispose();
});

test.serial('MiniLM: related texts are near, and a few steps bring pairs nearer', async (t) => {
  const published = dataFolder(t, 'all-minilm-l6-v2');
  if (published === undefined) return;
  const model = await loadModel(published, { task: 'embedding' });
  const rows = [
    ['How do plants make food?', 'photosynthesis'],
    ['Which force pulls a dropped stone down?', 'gravity'],
    ['What do bees collect from flowers?', 'nectar'],
    ['Which animal is the largest?', 'the blue whale'],
    ['What is frozen water called?', 'ice'],
    ['Which planet do we live on?', 'the earth'],
  ].map(([anchor = '', positive = '']) => ({ anchor, positive }));
  const before = await evaluate(model, { rows });
  t.true((before.metrics['ndcg@10'] ?? 0) > 0.7, `${before.metrics['ndcg@10']}`);
  const tuned = await attach(model, { type: 'lora', rank: 4, targets: 'all-linear' }, { seed: 1 });
  await train(tuned, { data: { train: { rows } }, training: { steps: 3, batch: 6, learningRate: 1e-3, schedule: 'constant' } });
  const after = await evaluate(tuned, { rows });
  t.true(after.loss < 0.8 * before.loss, `${before.loss} to ${after.loss}`);
  tuned.dispose();
  model.dispose();
});
