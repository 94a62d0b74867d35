import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { attach, type EncoderModel, type EncoderTask, evaluate, loadAdapter, loadModel, noGrad, saveModel, TunedEncoder } from 'lorikeet';
import { relativeError, sameBits } from '../helpers/adapters.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { goldenEncoder, rowsOf } from '../helpers/encoders.js';
import { numbers } from '../helpers/numbers.js';
import { perturb } from '../helpers/perturb.js';
import { shippedModel } from '../helpers/shipped.js';
import { tinyEncoder } from '../helpers/tiny-encoder.js';

const folder = tinyEncoder();
const open = <T extends EncoderTask>(task: T, labels?: readonly string[] | number, seed = 0): Promise<EncoderModel<T>> =>
  loadModel(folder, { task, dtype: 'f32', seed, ...(labels === undefined ? {} : { labels }) });

test.serial('an encoder takes the head of its task; what the checkpoint lacks is drawn from a seed, and named', async (t) => {
  const [one, same, other] = await Promise.all([
    open('classification', ['a', 'b']),
    open('classification', 2),
    open('classification', 2, 1),
  ]);
  t.deepEqual(one.newParameters, ['classifier.weight', 'classifier.bias']);
  t.deepEqual([one.task, one.labels, same.labels], ['classification', ['a', 'b'], ['LABEL_0', 'LABEL_1']]);
  t.deepEqual(one.config.id2label, { 0: 'a', 1: 'b' });
  const logits = (model: EncoderModel): Promise<number[]> =>
    numbers(
      noGrad(() =>
        model.forward({
          ids: [
            [2, 5, 6, 3],
            [2, 7, 3],
          ],
        }),
      ),
    );
  t.deepEqual(await logits(one), await logits(same));
  t.notDeepEqual(await logits(one), await logits(other));
  for (const model of [one, same, other]) model.dispose();
  t.throws(() => one.forward({ ids: [[2, 3]] }), { code: 'disposed' });
});

test.serial('published heads come with their task and labels', async (t) => {
  const expected = {
    'bert-classification': ['classification', 3],
    'bert-regression': ['regression', 2],
    'bert-token-classification': ['token-classification', 5],
    'bert-masked-lm': ['masked-lm', 0],
  } as const;
  for (const [name, [task, labels]] of Object.entries(expected)) {
    const model = await loadModel(goldenEncoder(name), { task: 'published', dtype: 'f32' });
    t.deepEqual([model.task, model.labels.length, model.newParameters], [task, labels, []], name);
    const rows = rowsOf(name);
    const answer = noGrad(() => model.forward({ ids: [rows[1]?.ids ?? []], tokenTypes: [rows[1]?.tokenTypes ?? []] }));
    t.true(relativeError(await numbers(answer), rows[1]?.output.flat() ?? []) < 1e-5, name);
    model.dispose();
  }
});

test.serial('wrong requests say what was expected', async (t) => {
  const wrong = (options: object, message: RegExp, path = folder): Promise<unknown> =>
    t.throwsAsync(loadModel(path, options as { task: 'classification' }), { code: 'config', message });
  await wrong(
    {},
    /is an encoder; say what it is to answer: task classification, regression, token-classification, masked-lm, embedding, or published/,
  );
  await wrong({ task: 'classification' }, /task "classification" needs labels/);
  await wrong({ task: 'classification', labels: ['a', 'a'] }, /labels must be different names; got "a" twice/);
  await wrong({ task: 'masked-lm', labels: 3 }, /task "masked-lm" has no labels/);
  await wrong({ task: 'published' }, /was published without a head/);
  await wrong({ task: 'classification', labels: 2, pooling: { mode: 'cls' } }, /"pooling" is for task "embedding"/);
  await wrong({ task: 'classification', labels: 2 }, /task "classification" is for encoders/, shippedModel);
  const model = await open('classification', 2);
  t.throws(() => model.forward({ ids: [] }), { code: 'invalid-argument', message: /the batch is empty/ });
  t.throws(() => model.forward({ ids: [[61]] }), {
    code: 'invalid-argument',
    message: /row 0 has a token that is not in the vocabulary; got 61/,
  });
  t.throws(() => model.forward({ ids: [[2, 3]] }, { tasks: [0, 1] }), {
    code: 'shape',
    message: /"tasks" must name the task of every row; got 2 entries, expected 1/,
  });
  t.throws(() => model.loss({ ids: [[2, 3]], targets: [2] }), { code: 'invalid-argument', message: /target 0 is no class; got 2/ });
  t.throws(() => model.loss({ ids: [[2, 3]], targets: [0, 1] }), { code: 'shape', message: /an entry for each row; got 2, expected 1/ });
  await t.throwsAsync(model.embed(['good']), { code: 'config', message: /loaded for task "classification"; expected task "embedding"/ });
  model.dispose();
});

test.serial('predictions do not depend on the batch, and name labels', async (t) => {
  const model = await open('classification', ['pro', 'contra']);
  const inputs = ['good film', 'bad', ['good play', 'bad film'], 'a b c d e'] as const;
  const one = await model.predict(inputs, { batch: 1 });
  const all = await model.predict(inputs, { batch: 4 });
  t.deepEqual(one, all);
  for (const { label, probability, probabilities } of all) {
    t.is(probability, Math.max(...Object.values(probabilities)));
    t.is(probabilities[label], probability);
    t.true(Math.abs(Object.values(probabilities).reduce((a, b) => a + b, 0) - 1) < 1e-12);
  }
  model.dispose();

  const tagger = await open('token-classification', ['O', 'X']);
  t.deepEqual(
    (await tagger.predict([{ words: ['good', 'abc', 'film'] }, 'good abc'])).map((tags) => tags.length),
    [3, 2],
  );
  tagger.dispose();
  const scorer = await open('regression');
  t.is((await scorer.predict(['good']))[0]?.length, 1);
  scorer.dispose();
  const hidden = await loadModel(tinyEncoder('bert-masked-lm'), { task: 'masked-lm', dtype: 'f32' });
  const [masks] = await hidden.predict(['good [MASK] [MASK]']);
  t.deepEqual(
    masks?.map((tokens) => tokens.length),
    [5, 5],
  );
  hidden.dispose();
  const embedder = await open('embedding');
  const [vector] = await embedder.embed(['good film']);
  t.is(vector?.length, 16);
  embedder.dispose();
});

test.serial("PEFT's adapter with a head answers as recorded, and is written for PEFT again", async (t) => {
  const model = await loadModel(tinyEncoder('bert-classification'), { task: 'classification', dtype: 'f32' });
  const bare = await model.predict(['good film']);
  const tuned = await loadAdapter(model, goldenEncoder('bert-classification-lora'));
  t.true(tuned instanceof TunedEncoder);
  for (const { ids, tokenTypes, output } of rowsOf('bert-classification-lora'))
    t.true(relativeError(await numbers(noGrad(() => tuned.forward({ ids: [ids], tokenTypes: [tokenTypes] }))), output.flat()) < 1e-5);
  const out = temporaryFolder();
  await tuned.save(out);
  const config = JSON.parse(readFileSync(join(out, 'adapter_config.json'), 'utf8'));
  t.is(config.task_type, 'SEQ_CLS');
  tuned.dispose();
  t.deepEqual(await model.predict(['good film']), bare);
  model.dispose();
});

test.serial('a new adapter trains the head with it, and keeps it through save, load and merge', async (t) => {
  const model = await open('classification', ['pro', 'contra']);
  const tuned = await attach(model, { type: 'lora', rank: 2 }, { seed: 3 });
  t.is(await attach(model, { type: 'lora', rank: 2 }, { name: 'second', activate: false }), tuned);
  t.deepEqual(tuned.table(['default']).filter(({ path }) => path === 'classifier').length, 1);
  perturb(tuned);
  const ids = [
    [2, 5, 6, 3],
    [2, 57, 59, 5, 3],
  ];
  const logits = async (from: { forward: EncoderModel['forward'] }) =>
    Float32Array.from(await numbers(noGrad(() => from.forward({ ids }))));
  const trained = await logits(tuned);
  const out = temporaryFolder();
  await tuned.save(join(out, 'adapter'), { name: 'default' });
  const config = JSON.parse(readFileSync(join(out, 'adapter', 'adapter_config.json'), 'utf8'));
  t.deepEqual([config.task_type, config.modules_to_save], ['SEQ_CLS', ['classifier']]);

  // Another random head underneath: the adapter brings its own.
  const again = await open('classification', ['pro', 'contra'], 9);
  const loaded = await loadAdapter(again, join(out, 'adapter'));
  t.true(sameBits(await logits(loaded), trained));
  again.dispose();

  await tuned.merge();
  t.true(relativeError(await logits(model), trained) < 1e-5);
  await saveModel(model, join(out, 'merged'));
  const merged = await loadModel(join(out, 'merged'), { task: 'published', dtype: 'f32' });
  t.deepEqual([merged.task, merged.labels, merged.newParameters], ['classification', ['pro', 'contra'], []]);
  t.true(sameBits(await logits(merged), await logits(model)));
  t.deepEqual(await merged.predict(['good film']), await model.predict(['good film']));
  merged.dispose();
  tuned.dispose();
  model.dispose();
});

test.serial("modulesToSave of one's own decides; a checkpoint without pooler or head of words has them trained", async (t) => {
  const paths = async <T extends EncoderTask>(
    path: string,
    task: T,
    labels: number | undefined,
    modulesToSave?: string[],
  ): Promise<string[]> => {
    const model = await loadModel(path, { task, dtype: 'f32', ...(labels && { labels }) });
    const tuned = await attach(model, { type: 'lora', rank: 2, ...(modulesToSave && { modulesToSave }) });
    const found = tuned
      .table()
      .map((row) => row.path)
      .filter((path) => !path.includes('layer.'));
    model.dispose();
    return found;
  };
  t.deepEqual(await paths(folder, 'classification', 2, []), []);
  t.deepEqual(await paths(tinyEncoder('bert-masked-lm'), 'classification', 2), ['bert.pooler.dense', 'classifier']);
  t.deepEqual(await paths(folder, 'masked-lm', undefined), ['cls.predictions.transform.dense', 'cls.predictions.transform.LayerNorm']);
  t.deepEqual(await paths(folder, 'embedding', undefined), []);
  t.deepEqual(await paths(tinyEncoder('bert-masked-lm'), 'embedding', undefined), []);
});

test.serial('a published head stays where its classes are those that are asked for, and else starts anew', async (t) => {
  const into = temporaryFolder();
  let count = 0;
  /** The recorded classifier, published with these names. */
  const published = (names: readonly string[], more: object = {}): string => {
    const path = tinyEncoder('bert-classification', join(into, `${count++}`));
    const config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
    const id2label = Object.fromEntries(names.map((name, id) => [id, name]));
    writeFileSync(join(path, 'config.json'), JSON.stringify({ ...config, id2label, ...more }));
    return path;
  };
  const found = async (path: string, labels?: readonly string[] | number) => {
    const model = await loadModel(path, { task: 'classification', dtype: 'f32', ...(labels && { labels }) });
    model.dispose();
    return [model.labels, model.newParameters.length];
  };
  const names = ['bad', 'fair', 'good'];
  const source = published(names);
  t.deepEqual(await found(source), [names, 0]);
  t.deepEqual(await found(source, 3), [names, 0]);
  t.deepEqual(await found(source, names), [names, 0]);
  t.deepEqual(await found(source, ['cat', 'dog', 'bird']), [['cat', 'dog', 'bird'], 2]);
  t.deepEqual(await found(published(['LABEL_0', 'LABEL_1', 'LABEL_2']), names), [names, 0]);
  await t.throwsAsync(found(source, ['good', 'fair', 'bad']), {
    code: 'config',
    message: /published head in another order; got good, fair, bad, expected bad, fair, good/,
  });
  const several = published(names, { problem_type: 'multi_label_classification' });
  await t.throwsAsync(found(several), { code: 'config', message: /several labels at once/ });
  await t.throwsAsync(loadModel(several, { task: 'published' }), { code: 'config', message: /several labels at once/ });
  t.deepEqual(await found(several, ['cat', 'dog', 'bird']), [['cat', 'dog', 'bird'], 2]);
});

test.serial('modules of sentence-transformers are read for embeddings alone', async (t) => {
  const source = tinyEncoder();
  writeFileSync(join(source, 'modules.json'), JSON.stringify([{ type: 'sentence_transformers.models.Dense', path: '2_Dense' }]));
  (await loadModel(source, { task: 'classification', labels: 2 })).dispose();
  await t.throwsAsync(loadModel(source, { task: 'embedding' }), {
    code: 'config',
    message: /modules\.json has a module that is not supported/,
  });
});

test.serial('virtual tokens get their room of what is predicted', async (t) => {
  const model = await open('classification', 2);
  const tuned = await attach(model, { type: 'prompt', virtualTokens: 6 });
  const [answer] = await tuned.predict(['a b c d e f g h i j k l m n o p q r s t u v w x y z']);
  t.is(Object.keys(answer?.probabilities ?? {}).length, 2);
  tuned.dispose();
  model.dispose();
});

test.serial('a word without a token does not shift the tags of those after it', async (t) => {
  const tagger = await open('token-classification', ['O', 'X']);
  const tag = async (...words: string[]) => (await tagger.predict([{ words }]))[0];
  const [first, second] = (await tag('good', 'film')) ?? [];
  t.deepEqual(await tag('good', '\u0000', 'film'), [first, null, second]);
  tagger.dispose();
});

test.serial('texts alone cannot be evaluated', async (t) => {
  const model = await open('classification', 2);
  await t.throwsAsync(async () => evaluate(model, ['good film'] as never), {
    code: 'invalid-argument',
    message: /texts alone say nothing of task "classification"/,
  });
  model.dispose();
});
