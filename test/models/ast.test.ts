import test from 'ava';
import { ConfigError, type EncoderModel, InvalidArgumentError, loadModel, memory, noGrad, ShapeError, scope, type Tensor } from 'lorikeet';
import { normal, tensor } from 'lorikeet/ops';
import { headRequestOf } from '#dist/load-encoder.js';
import type { EncoderNetwork, HeadOptions } from '#dist/models/encoder.js';
import { createEncoder } from '#dist/models/encoders.js';
import { parseRecipe } from '#dist/recipe.js';
import { goldenEncoder, openEncoder } from '../helpers/encoders.js';
import { readJson } from '../helpers/folders.js';
import { near, numbers } from '../helpers/numbers.js';

interface Case {
  positions: 'resized' | 'zero';
  input: { shape: number[]; values: number[] };
  logits?: number[];
  mean?: number[];
  published?: number[];
}

const casesOf = (name: string): Case[] => readJson<{ cases: Case[] }>(goldenEncoder(name), 'reference.json').cases;
const featuresOf = ({ input }: Case): Tensor => tensor(Float32Array.from(input.values), { shape: input.shape });
const answer = (network: EncoderNetwork, features: Tensor): Promise<number[]> =>
  numbers(noGrad(() => network.forward({ features }, { training: false })));

const type = { model_type: 'audio-spectrogram-transformer' };
const small = { ...type, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 24 };
const published = { ...type, hidden_size: 768, num_hidden_layers: 12, num_attention_heads: 12, intermediate_size: 3072 };

// The published length, longer and shorter ones, with position embeddings resized and left out.
test.serial('logits as recorded, at every length', async (t) => {
  const cases = casesOf('ast');
  t.is(cases.length, 5);
  for (const recorded of cases) {
    const { network } = await openEncoder(goldenEncoder('ast'), 'classification', { head: { positions: recorded.positions } });
    const got = await scope(() => answer(network, featuresOf(recorded)));
    near(t, got, recorded.logits ?? [], 1e-4, `${recorded.input.shape.join(' x ')}, ${recorded.positions}`);
    network.dispose();
  }
});

test.serial('a file of the bare encoder: embeddings by pooling', async (t) => {
  const [recorded] = casesOf('ast-bare') as [Case];
  for (const [head, expected] of [
    [{}, recorded.published],
    [{ pooling: { mode: 'mean' } }, recorded.mean],
  ] as [HeadOptions, number[]][]) {
    const { network } = await openEncoder(goldenEncoder('ast-bare'), 'embedding', { head });
    near(t, await scope(() => answer(network, featuresOf(recorded))), expected, 1e-4, JSON.stringify(head));
    network.dispose();
  }
});

test.serial('a head of another size starts anew, norm included', async (t) => {
  const { network, fresh } = await openEncoder(goldenEncoder('ast'), 'classification', { head: { labels: 9, pooling: { mode: 'mean' } } });
  t.deepEqual(fresh, ['classifier']);
  t.is((await scope(() => answer(network, featuresOf(casesOf('ast')[0] as Case)))).length, 18);
  network.dispose();
});

test.serial('tokens by length, and parameters of the published size', (t) => {
  const tokens = [100, 400, 500, 800, 1024].map(
    (length) => createEncoder({ ...published, max_length: length }, 'embedding').shape.contextLength,
  );
  t.deepEqual(tokens, [110, 470, 590, 950, 1214]);
  const network = createEncoder(published, 'classification', { labels: 527 });
  const shapes = [...network.namedModules()].flatMap(([, module]) => Object.values(module.parameterShapes()));
  // As transformers counts the model with the 527 labels of AudioSet.
  t.is(
    shapes.reduce((total, shape) => total + shape.reduce((product, extent) => product * extent, 1), 0),
    86594063,
  );
});

test.serial('what does not fit is refused', (t) => {
  const refused = (config: object, message: RegExp, head: object = {}): void => {
    t.throws(() => createEncoder({ ...small, ...config }, 'classification', head), { instanceOf: ConfigError, message });
  };
  refused({ max_length: 15 }, /smaller than a patch/);
  refused({ num_mel_bins: 8 }, /smaller than a patch/);
  refused({}, /unknown "positions"/, { positions: 'none' });
  refused({}, /unknown mode/, { pooling: { mode: 'all' } });
  const network = createEncoder(small, 'classification');
  scope(() => {
    t.throws(() => network.forward({ features: normal([1, 100, 64]) }, { training: false }), {
      instanceOf: ShapeError,
      message: /expected \[B, T, 128\]/,
    });
    t.throws(() => network.forward({ pixels: normal([1, 1, 16, 16]) }, { training: false }), { instanceOf: InvalidArgumentError });
  });
});

test.serial('loadModel and recipes say what position embeddings are for other lengths', async (t) => {
  const features = normal([1, 70, 32], { seed: 1 });
  const load = (asked: object, from = 'ast'): Promise<EncoderModel> =>
    loadModel(goldenEncoder(from), { task: 'published', dtype: 'f32', ...asked });
  const logits = async (asked: object): Promise<number[]> => {
    using model = await load(asked);
    return await scope(() => numbers(noGrad(() => model.forward({ features }))));
  };
  const resized = await logits({});
  t.deepEqual(await logits({ positions: 'resized' }), resized);
  t.notDeepEqual(await logits({ positions: 'zero' }), resized);
  features.dispose();
  await t.throwsAsync(load({ positions: 'none' }), { code: 'config', message: /unknown "positions" "none"/ });
  await t.throwsAsync(load({ positions: 'zero' }, 'vit'), {
    code: 'config',
    message: /"positions" is for spectrograms of other lengths; got it with "vit", expected audio-spectrogram-transformer/,
  });
  const { task } = parseRecipe({
    model: 'ast',
    task: { type: 'classification', positions: 'zero' },
    data: { train: { path: 'rows.jsonl' } },
  });
  t.deepEqual(headRequestOf(task as NonNullable<typeof task>), { task: 'classification', positions: 'zero' });
});

test.after.always('no tensor is left', (t) => {
  t.is(memory().tensors, 0);
});
