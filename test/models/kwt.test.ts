import { join } from 'node:path';
import test from 'ava';
import { ConfigError, InvalidArgumentError, memory, noGrad, ShapeError, scope } from 'lorikeet';
import { normal, tensor } from 'lorikeet/ops';
import { cepstra, readCepstra } from '#dist/data/audio/front-ends.js';
import { melTriangles } from '#dist/data/audio/log-mel.js';
import { audioFrontEnd } from '#dist/data/audio.js';
import { loadSafetensors } from '#dist/io/safetensors.js';
import { createEncoder } from '#dist/models/encoders.js';
import { openEncoder } from '../helpers/encoders.js';
import { dataFolder, readJson } from '../helpers/folders.js';
import { distance, near, numbers } from '../helpers/numbers.js';

interface Recorded {
  cases: { file: string; features_row0?: number[]; features_row97?: number[]; logits: number[]; argmax: string }[];
}

const small = { architecture: 'kwt', embed_dim: 8, depth: 1, num_heads: 2, mlp_dim: 12, input_frames: 5, input_coeffs: 4, num_classes: 3 };

test.serial('KWT-1 hears in recordings what was recorded', async (t) => {
  const folder = dataFolder(t, 'kwt1-speech-commands');
  const samples = dataFolder(t, 'speech-commands-sample');
  if (folder === undefined || samples === undefined) return;
  const config = readJson<{ [key: string]: unknown; labels: string[]; frontend: object }>(folder, 'config.json');
  const { cases } = readJson<Recorded>(folder, 'reference.json');
  const { network, fresh } = await openEncoder(folder, 'classification');
  t.deepEqual(fresh, []);
  const front = audioFrontEnd(undefined, config);
  const tone = Float64Array.from({ length: 16000 }, (_, n) => 0.3 * Math.sin((2 * Math.PI * 440 * n) / 16000));
  const made = [new Float64Array(16000), tone];
  t.is(cases.length, 10);
  for (const recorded of cases) {
    const isFile = recorded.file.endsWith('.wav');
    const { values, shape } = isFile
      ? await front.read(join(samples, '..', recorded.file))
      : cepstra(made.shift() as Float64Array, readCepstra(config));
    t.deepEqual(shape, [98, 40]);
    if (recorded.features_row0 !== undefined)
      near(t, values.subarray(0, 40), recorded.features_row0, 1e-3, `${recorded.file}: first frame`);
    if (recorded.features_row97 !== undefined)
      near(t, values.subarray(97 * 40), recorded.features_row97, 1e-3, `${recorded.file}: last frame`);
    const logits = await scope(() =>
      numbers(noGrad(() => network.forward({ features: tensor(values, { shape: [1, ...shape] }) }, { training: false }))),
    );
    near(t, logits, recorded.logits, 1e-4, recorded.file);
    t.is(config.labels[logits.indexOf(Math.max(...logits))], recorded.argmax);
  }
  network.dispose();
});

test.serial('its mel triangles are those of the published graph', async (t) => {
  const folder = dataFolder(t, 'kwt1-speech-commands');
  if (folder === undefined) return;
  const { mel } = readCepstra(readJson(folder, 'config.json'));
  const stored = (await loadSafetensors(join(folder, 'model.safetensors'))) as Map<string, import('lorikeet').Tensor>;
  const expected = await numbers(stored.get('frontend.mel.weight') as import('lorikeet').Tensor);
  for (const x of stored.values()) x.dispose();
  const got = new Float64Array(80 * 244);
  for (const [row, { first, weights }] of melTriangles(mel).entries()) got.set(weights, row * 244 + first);
  t.true(distance(got, expected) < 3e-5, String(distance(got, expected)));
});

test.serial('heads, and what does not fit', (t) => {
  t.is(createEncoder(small, 'classification').parameterShapes().cls_token?.[2], 8);
  const shapes = (task: 'regression' | 'embedding'): number[] => {
    const network = createEncoder(small, task, { pooling: { mode: ['cls', 'mean'] } });
    const { head } = network as unknown as { head?: { inFeatures: number; outFeatures: number } };
    return head === undefined ? [] : [head.inFeatures, head.outFeatures];
  };
  t.deepEqual(shapes('regression'), [16, 3]);
  t.deepEqual(shapes('embedding'), []);
  t.throws(() => createEncoder({ ...small, norm: 'pre' }, 'classification'), { instanceOf: ConfigError, message: /"norm" is wrong/ });
  t.throws(() => createEncoder({ ...small, num_heads: 3 }, 'classification'), { instanceOf: ConfigError, message: /multiple/ });
  const network = createEncoder(small, 'classification');
  scope(() => {
    t.throws(() => network.forward({ features: normal([1, 6, 4]) }, { training: false }), {
      instanceOf: ShapeError,
      message: /expected \[B, 5, 4\]/,
    });
    t.throws(() => network.forward({ pixels: normal([1, 1, 6, 4]) }, { training: false }), { instanceOf: InvalidArgumentError });
  });
});

test.after.always('no tensor is left', (t) => {
  t.is(memory().tensors, 0);
});
