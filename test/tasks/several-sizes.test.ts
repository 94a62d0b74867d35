// Images and recordings of several sizes among the examples of one call: each is answered as if it were alone.
import test from 'ava';
import { type EncoderModel, evaluate, loadModel, type PredictInput } from 'lorikeet';
import { goldenEncoder } from '../helpers/encoders.js';

const wave = (shape: readonly number[], pace: number) => ({
  values: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i * pace)),
  shape,
});
const images = [wave([3, 16, 16], 0.3), wave([3, 24, 16], 0.1), wave([3, 16, 16], 0.7), wave([3, 24, 16], 0.2)];
const recordings = [wave([48, 32], 0.3), wave([97, 32], 0.1), wave([48, 32], 0.7)];

const load = (name: string): Promise<EncoderModel<'classification'>> =>
  loadModel(goldenEncoder(name), { task: 'classification', labels: 2, dtype: 'f32' });

for (const [name, field, examples] of [
  ['vit', 'image', images],
  ['ast', 'audio', recordings],
] as const) {
  test(`${name} answers examples of several sizes as it answers each alone`, async (t) => {
    const model = await load(name);
    const alone = await Promise.all(examples.map(async (example) => (await model.predict([example]))[0]?.probability ?? 0));
    for (const batch of [2, 8]) {
      const found = await model.predict(examples, { batch });
      t.is(found.length, examples.length);
      for (const [index, { probability }] of found.entries())
        t.true(Math.abs(probability - (alone[index] as number)) < 1e-6, `row ${index}`);
    }
    const rows = examples.map((example) => ({ [field]: example, label: 0 }));
    const [one, all] = [await evaluate(model, { rows }, { batch: 1 }), await evaluate(model, { rows }, { batch: 8 })];
    t.true(Math.abs(one.loss - all.loss) < 1e-6);
    t.is(all.rows, examples.length);
    model.dispose();
  });
}

test('a size that the network cannot take is told with its row', async (t) => {
  const [vision, hearing] = [await load('vit'), await load('ast')];
  const refused = (model: EncoderModel, inputs: PredictInput[], message: RegExp) =>
    t.throwsAsync(model.predict(inputs), { code: 'shape', message });
  await refused(
    vision,
    [...images, wave([3, 2, 2], 1)],
    /^predict: row 4: patches: the input is smaller than a patch; got 2 x 2, expected at least 4 x 4/,
  );
  await refused(hearing, [...recordings, wave([5, 32], 1)], /^predict: row 3: .*smaller than a patch; got 32 x 5/);
  for (const model of [vision, hearing]) model.dispose();
});
