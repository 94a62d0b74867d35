// A head that was trained is there again when the folder is loaded for what it was published for.
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { type EncoderModel, type EncoderTask, loadModel, noGrad, saveModel } from 'lorikeet';
import { saveSafetensors } from 'lorikeet/io';
import { normal } from 'lorikeet/ops';
import { createEncoder } from '#dist/models/encoders.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { goldenEncoder } from '../helpers/encoders.js';
import { readJson } from '../helpers/folders.js';
import { numbers } from '../helpers/numbers.js';

const folder = temporaryFolder();

const kwt = {
  architecture: 'kwt',
  embed_dim: 8,
  depth: 1,
  num_heads: 2,
  mlp_dim: 12,
  input_frames: 5,
  input_coeffs: 4,
  num_classes: 4,
  labels: ['yes', 'no', 'up', 'down'],
};

/** A folder with random weights of a keyword transformer. */
async function writeKwt(): Promise<string> {
  const network = createEncoder(kwt, 'classification');
  const weights = [...network.namedModules()].flatMap(([path, module]) =>
    Object.entries(module.parameterShapes()).map(([name, shape], i) => {
      const whole = path === '' ? name : `${path}.${name}`;
      return [whole, normal(shape, { std: 0.2, seed: i, stream: whole.length })] as const;
    }),
  );
  const at = join(folder, 'kwt');
  mkdirSync(at);
  writeFileSync(join(at, 'config.json'), JSON.stringify(kwt));
  await saveSafetensors(join(at, 'model.safetensors'), new Map(weights));
  return at;
}

/** A copy of a recorded encoder whose config has more keys. */
function withKeys(name: string, keys: object): string {
  const at = join(folder, `${name}-more`);
  cpSync(goldenEncoder(name), at, { recursive: true });
  writeFileSync(join(at, 'config.json'), JSON.stringify({ ...readJson<object>(at, 'config.json'), ...keys }));
  return at;
}

const answer = async (model: EncoderModel): Promise<number[]> => {
  const { modality, shape } = model.network;
  if (modality === 'text') return numbers(noGrad(() => model.forward({ ids: [[2, 5, 6, 3]] })));
  const example = normal([1, ...(shape.example ?? [])], { seed: 4 });
  return numbers(noGrad(() => model.forward(modality === 'image' ? { pixels: example } : { features: example })));
};

const sources: Readonly<Record<string, () => string | Promise<string>>> = {
  bert: () => goldenEncoder('bert-base'),
  vit: () => goldenEncoder('vit'),
  'timm-vit': () => goldenEncoder('timm-vit'),
  'timm-vit of a published form': () =>
    withKeys('timm-vit-average', {
      label_names: ['a', 'b', 'c', 'd', 'e'],
      label_descriptions: { a: 'the first' },
      pretrained_cfg: { input_size: [3, 16, 16], num_classes: 5 },
    }),
  ast: () => goldenEncoder('ast'),
  kwt: writeKwt,
};

for (const [name, source] of Object.entries(sources)) {
  test.serial(`${name}: heads of other sizes come back as they were`, async (t) => {
    const path = await source();
    const requests: [EncoderTask, string[] | undefined][] = [
      ['classification', ['one', 'two', 'three']],
      ['classification', ['only']],
      ['regression', ['height', 'width']],
    ];
    if (name !== 'bert') requests.push(['embedding', undefined]);
    for (const [task, labels] of requests) {
      const model = await loadModel(path, { task, dtype: 'f32', seed: 7, ...(labels && { labels }) });
      const saved = join(folder, `${name}-${task}-${labels?.length ?? 0}`);
      await saveModel(model, saved);
      const bare = task === 'embedding' && (name === 'vit' || name === 'ast');
      const again = await loadModel(saved, { task: bare ? 'embedding' : 'published', dtype: 'f32', seed: 8 });
      t.deepEqual([again.task, again.labels, again.newParameters], [task, labels ?? [], []], task);
      t.deepEqual(await answer(again), await answer(model), task);
      for (const each of [model, again]) each.dispose();
    }
  });
}

/** A spectrogram that is longer than the recorded model was published for. */
const long = (model: EncoderModel): Promise<number[]> => {
  const [, bins = 0] = model.network.shape.example ?? [];
  return numbers(noGrad(() => model.forward({ features: normal([1, 97, bins], { seed: 4 }) })));
};

test.serial('pooling and positions come back as they were saved, and give way to those that are asked for', async (t) => {
  const [from, to] = [goldenEncoder('ast'), join(folder, 'ast-head')];
  const task = 'classification';
  const model = await loadModel(from, {
    task,
    labels: ['one', 'two'],
    dtype: 'f32',
    pooling: { mode: ['mean', 'max'] },
    positions: 'zero',
  });
  await saveModel(model, to);
  const again = await loadModel(to, { task: 'published', dtype: 'f32' });
  t.deepEqual([again.network.pooling, again.network.positions, again.newParameters], [{ mode: ['mean', 'max'] }, 'zero', []]);
  t.deepEqual(await long(again), await long(model));
  const resized = await loadModel(to, { task, dtype: 'f32', positions: 'resized' });
  t.is(resized.network.positions, 'resized');
  await saveModel(resized, join(folder, 'ast-resized'));
  t.deepEqual(readJson<object>(folder, 'ast-resized', 'config.json'), {
    ...readJson<object>(to, 'config.json'),
    lorikeet_head: { pooling: { mode: ['mean', 'max'] } },
  });
  for (const each of [model, again, resized]) each.dispose();
  const plain = await loadModel(from, { task: 'published', dtype: 'f32' });
  await saveModel(plain, join(folder, 'ast-plain'));
  t.false('lorikeet_head' in readJson<object>(folder, 'ast-plain', 'config.json'));
  plain.dispose();
});

test.serial('an embedding of images knows its pooling again', async (t) => {
  const model = await loadModel(goldenEncoder('vit'), { task: 'embedding', dtype: 'f32', pooling: { mode: 'mean', normalize: true } });
  const to = join(folder, 'vit-pooled');
  await saveModel(model, to);
  const again = await loadModel(to, { task: 'published', dtype: 'f32' });
  t.is(again.task, 'embedding');
  t.deepEqual(await answer(again), await answer(model));
  for (const each of [model, again]) each.dispose();
});

test.serial('the sizes that timm reads follow the labels', (t) => {
  const { num_classes, label_names, label_descriptions, model_args, pretrained_cfg } = readJson<Record<string, unknown>>(
    folder,
    'timm-vit of a published form-classification-3',
    'config.json',
  );
  t.deepEqual([num_classes, label_names, label_descriptions], [3, ['one', 'two', 'three'], undefined]);
  t.like(model_args, { num_classes: 3 });
  t.like(pretrained_cfg, { num_classes: 3 });
});

/** A recorded encoder with keys of its own, what is asked of it, and the head that its config tells of. */
const others: readonly (readonly [string, object, EncoderTask, readonly string[] | number, string])[] = [
  ['bert-token-classification', {}, 'classification', 5, 'token-classification'],
  ['bert-token-classification', {}, 'regression', 5, 'token-classification'],
  ['bert-token-classification', {}, 'classification', ['LABEL_0', 'LABEL_1', 'LABEL_2', 'LABEL_3', 'LABEL_4'], 'token-classification'],
  ['bert-classification', {}, 'token-classification', 3, 'classification'],
  ['bert-classification', { problem_type: 'multi_label_classification' }, 'regression', 3, 'classification'],
  ['bert-classification', { architectures: ['BertForMultipleChoice'] }, 'classification', 3, 'ForMultipleChoice'],
  ['bert-regression', {}, 'classification', 2, 'regression'],
  ['vit', {}, 'regression', 5, 'classification'],
  ['ast', { problem_type: 'regression' }, 'classification', 5, 'regression'],
  ['timm-vit', {}, 'regression', 5, 'classification'],
];
for (const [number, [name, keys, task, labels, head]] of others.entries()) {
  test.serial(`${number}: a head of ${head} of ${name} is not kept for ${task}, whatever its size`, async (t) => {
    const path = withKeys(name, keys);
    const said: string[] = [];
    const listen = (warning: Error): void => void said.push(warning.message);
    process.on('warning', listen);
    const [one, other] = [await loadModel(path, { task, labels, seed: 1 }), await loadModel(path, { task, labels, seed: 2 })];
    await new Promise(setImmediate);
    process.off('warning', listen);
    t.deepEqual(
      said.map((message) => message.includes(`head of another task; got ${head}, expected ${task}`)),
      [true, true],
    );
    const fresh = one.newParameters.filter((path) => /^(classifier|head)\./.test(path));
    t.true(fresh.length >= 2, fresh.join());
    t.notDeepEqual(await answer(one), await answer(other));
    for (const each of [one, other]) each.dispose();
  });
}

test.serial('labels of the head of another task are not taken over', async (t) => {
  const path = goldenEncoder('bert-token-classification');
  await t.throwsAsync(loadModel(path, { task: 'classification' }), {
    code: 'config',
    message: /needs labels, and the config of the model names those of another head \(token-classification\)/,
  });
  const model = await loadModel(goldenEncoder('vit'), { task: 'regression' });
  t.deepEqual(model.labels, ['LABEL_0']);
  model.dispose();
});
