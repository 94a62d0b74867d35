import test from 'ava';
import { ConfigError, FormatError, manualSeed, memory, noGrad, scope, type Tensor } from 'lorikeet';
import { Tokenizer } from 'lorikeet/io';
import type { Linear } from 'lorikeet/nn';
import { logitsCrossEntropy, mul, narrow, select, sum, tensor } from 'lorikeet/ops';
import { resolveModel } from '#dist/io/model-files.js';
import { readPooling } from '#dist/io/sentence-encoder.js';
import { safetensorsWeights } from '#dist/io/weights.js';
import type { BertForEmbedding } from '#dist/models/bert-heads.js';
import type { EncoderTask, HeadOptions } from '#dist/models/encoder.js';
import { createEncoder } from '#dist/models/encoders.js';
import { loadWeights } from '#dist/models/load-weights.js';
import { kPoolingModes } from '#dist/models/pooling.js';
import { goldenEncoder, type OpenOptions, openEncoder, outputsOf, type RecordedRow, rowsOf, textBatch } from '../helpers/encoders.js';
import { dataFolder, readJson } from '../helpers/folders.js';
import { near, numbers } from '../helpers/numbers.js';

// Recorded in f32; runs of the same models in f32 and f64 differ by up to 3e-6.
const tolerance = 1e-4;

const heads: readonly (readonly [string, EncoderTask])[] = [
  ['bert-classification', 'classification'],
  ['bert-regression', 'regression'],
  ['bert-token-classification', 'token-classification'],
  ['bert-masked-lm', 'masked-lm'],
  ['bert-untied', 'masked-lm'],
  ['bert-old-names', 'masked-lm'],
];

for (const [name, task] of heads) {
  test.serial(`${name}: outputs of transformers`, async (t) => {
    const { network, fresh } = await openEncoder(goldenEncoder(name), task);
    t.deepEqual(fresh, []);
    const rows = rowsOf(name);
    const got = await scope(() => outputsOf(network, rows));
    for (const [b, { output }] of rows.entries()) near(t, got[b] ?? [], output.flat(), tolerance, `row ${b}`);
    network.dispose();
  });
}

test.serial('bert-base: hidden states, pooler and every pooling', async (t) => {
  const { network } = await openEncoder(goldenEncoder('bert-base'), 'embedding', { head: { pooling: { mode: kPoolingModes } } });
  const rows = rowsOf('bert-base');
  const embedder = network as BertForEmbedding;
  await scope(async () => {
    const { input, context } = textBatch(
      rows.map(({ ids }) => ids),
      rows.map(({ tokenTypes }) => tokenTypes),
    );
    const hidden = noGrad(() => embedder.hidden(input, context));
    const pooler = noGrad(() => embedder.pooler?.forward(hidden, context)) as Tensor;
    const pooled = await outputsOf(network, rows);
    for (const [b, row] of rows.entries()) {
      near(t, await numbers(narrow(narrow(hidden, 0, b, 1), 1, 0, row.ids.length)), row.hidden.flat(), tolerance, 'hidden');
      near(t, await numbers(narrow(pooler, 0, b, 1)), row.pooler, tolerance, 'pooler');
      near(
        t,
        pooled[b] ?? [],
        kPoolingModes.flatMap((mode) => row.pooled[mode] ?? []),
        tolerance,
        'pooled',
      );
    }
  });
  network.dispose();
});

test.serial('a row has the same bits alone and in a batch, with every head', async (t) => {
  const all = [...heads, ['bert-base', 'embedding'] as const];
  for (const [name, task] of all) {
    const { network } = await openEncoder(goldenEncoder(name), task, { head: { pooling: { mode: kPoolingModes } } });
    const row = rowsOf(name)[0] as RecordedRow;
    const others = [14, 4, 9, 12, 1, 7].map((length, i) => {
      const ids = Array.from({ length }, (_, at) => 3 + ((7 + 13 * i + 5 * at) % 50));
      return { ...row, ids, tokenTypes: ids.map((id) => id % 2) };
    });
    const [alone] = await scope(() => outputsOf(network, [row]));
    t.deepEqual((await scope(() => outputsOf(network, [row, ...others])))[0], alone);
    t.deepEqual((await scope(() => outputsOf(network, [...others.slice(0, 3), row, ...others.slice(3)])))[3], alone);
    network.dispose();
  }
});

for (const [name, task] of [...heads, ['bert-base', 'embedding'] as const]) {
  test.serial(`${name}: gradients reach every parameter of ${task}, recomputed ones with the same bits`, async (t) => {
    const { network } = await openEncoder(goldenEncoder(name), task);
    network.unfreeze();
    const rows = rowsOf(name);
    const gradients = async (checkpointing: boolean): Promise<Map<string, number[]>> =>
      scope(async () => {
        const batch = textBatch(
          rows.map(({ ids }) => ids),
          rows.map(({ tokenTypes }) => tokenTypes),
          true,
        );
        // The same masks of dropout both times, which recomputing must repeat too.
        manualSeed(5);
        const output = network.forward(batch.input, { ...batch.context, checkpointing });
        const weights = tensor(
          Float32Array.from({ length: output.size }, (_, i) => Math.sin(i)),
          { shape: output.shape },
        );
        sum(mul(output, weights)).backward();
        const found = new Map<string, number[]>();
        for (const [path, value] of network.namedParameters()) {
          const { grad } = value as Tensor;
          if (grad) found.set(path, await numbers(grad));
          (value as Tensor).setGrad(undefined);
        }
        return found;
      });
    const kept = await gradients(false);
    const expected = [...network.namedParameters()]
      .map(([path]) => path)
      .filter((path) => task !== 'embedding' || !path.startsWith('pooler'));
    t.deepEqual([...kept.keys()].sort(), expected.sort());
    for (const [path, values] of kept)
      t.true(
        // What all keys have in common drops out of the softmax.
        path.endsWith('key.bias') || values.some((value) => Math.abs(value) > 1e-6),
        path,
      );
    t.deepEqual(await gradients(true), kept);
    network.dispose();
  });
}

test.serial('the masked loss is the cross-entropy of the logits', async (t) => {
  const { network } = await openEncoder(goldenEncoder('bert-masked-lm'), 'masked-lm');
  const rows = rowsOf('bert-masked-lm');
  await scope(async () => {
    const { input, context } = textBatch(
      rows.map(({ ids }) => ids),
      rows.map(({ tokenTypes }) => tokenTypes),
    );
    const targets = new BigInt64Array(2 * 14).fill(-100n);
    targets.set([7n, 33n], 2);
    targets[14 + 5] = 60n;
    const wanted = tensor(targets, { shape: [2, 14] });
    const expected = await numbers(logitsCrossEntropy(network.forward(input, context), wanted));
    near(t, await numbers(network.maskedLoss?.(input, wanted, context) as Tensor), expected, 1e-5, 'loss');
  });
  network.dispose();
});

test.serial('a bare encoder gets any head: what the file lacks starts from the seed, and the rest is read', async (t) => {
  const folder = goldenEncoder('bert-base');
  const classes = { head: { labels: 4 } };
  const cases: readonly (readonly [EncoderTask, OpenOptions, string[]])[] = [
    ['classification', classes, ['classifier']],
    ['token-classification', classes, ['classifier']],
    ['masked-lm', {}, ['cls']],
    ['embedding', {}, []],
  ];
  for (const [task, options, fresh] of cases) {
    const opened = await openEncoder(folder, task, options);
    t.deepEqual(opened.fresh, fresh);
    opened.network.dispose();
  }
  const weightOf = async (options: OpenOptions): Promise<number[]> => {
    const { network } = await openEncoder(folder, 'classification', { ...classes, ...options });
    network.unfreeze();
    const values = await numbers((network.module('classifier') as Linear).weight as Tensor);
    t.deepEqual(await numbers((network.module('classifier') as Linear).bias as Tensor), [0, 0, 0, 0]);
    network.dispose();
    return values;
  };
  const first = await weightOf({});
  t.deepEqual(await weightOf({}), first);
  t.notDeepEqual(await weightOf({ seed: 1 }), first);
  const deviation = Math.sqrt(first.reduce((total, value) => total + value * value, 0) / first.length);
  t.true(deviation > 0.01 && deviation < 0.03, `deviation ${deviation}`);
});

test.serial('a head of another size starts anew; a pooler that a file lacks too', async (t) => {
  const other = await openEncoder(goldenEncoder('bert-classification'), 'classification', { head: { labels: 5 } });
  t.deepEqual(other.fresh, ['classifier']);
  other.network.dispose();
  const tagger = await openEncoder(goldenEncoder('bert-token-classification'), 'embedding');
  t.deepEqual(tagger.fresh, ['pooler']);
  tagger.network.dispose();
});

test.serial('weights that do not fit are named by what the network calls them', async (t) => {
  await t.throwsAsync(openEncoder(goldenEncoder('bert-base-lora'), 'embedding'), { message: /is no model folder/ });
  const files = await resolveModel(goldenEncoder('bert-classification'));
  if (files.kind !== 'huggingface') return t.fail();
  using network = createEncoder(files.config, 'classification');
  const stored = safetensorsWeights(files.weights, 'here');
  const entries = new Map(stored.entries);
  entries.delete('classifier.bias');
  entries.set('bert.encoder.layer.0.extra', { shape: [1], stored: 'F32' });
  await t.throwsAsync(loadWeights(network, { ...stored, entries }), {
    instanceOf: FormatError,
    message: 'here: the weights do not fit the config; 1 missing: classifier.bias; 1 unexpected: bert.encoder.layer.0.extra',
  });
});

test.serial('heads of other classes are left out, and what is no head of any is named', async (t) => {
  const files = await resolveModel(goldenEncoder('bert-base'));
  if (files.kind !== 'huggingface') throw new Error('no folder');
  const weights = safetensorsWeights(files.weights, 'here');
  const [any] = weights.entries.values();
  const load = async (task: EncoderTask, names: readonly string[]): Promise<void> => {
    const network = createEncoder(files.config, task, task === 'masked-lm' ? {} : { labels: 7 });
    const more = names.map((name) => [name, any as NonNullable<typeof any>] as const);
    try {
      await loadWeights(network, { ...weights, entries: new Map([...weights.entries, ...more]) }, { dtype: 'f32' });
    } finally {
      network.dispose();
    }
  };
  for (const task of ['classification', 'embedding', 'masked-lm'] as const) {
    await t.notThrowsAsync(load(task, ['qa_outputs.weight', 'cls.seq_relationship.weight']), task);
    await t.throwsAsync(load(task, ['adapter.weight', 'bert.extra.weight', 'classifiers.weight']), {
      instanceOf: FormatError,
      message: /3 unexpected: adapter\.weight, bert\.extra\.weight, classifiers\.weight/,
    });
  }
});

test('configs that cannot work are refused', (t) => {
  const config = readJson<Record<string, unknown>>(goldenEncoder('bert-base'), 'config.json');
  const refused: readonly (readonly [Record<string, unknown>, EncoderTask, HeadOptions, RegExp])[] = [
    [{ position_embedding_type: 'relative_key' }, 'embedding', {}, /"position_embedding_type" must be absolute; got "relative_key"/],
    [{ is_decoder: true }, 'masked-lm', {}, /"is_decoder" must be false/],
    [{ num_attention_heads: 5 }, 'masked-lm', {}, /"hidden_size" must be a multiple of "num_attention_heads"/],
    [{ hidden_act: 'mish' }, 'masked-lm', {}, /unknown "hidden_act" "mish"/],
    [{ hidden_dropout_prob: 1 }, 'masked-lm', {}, /"hidden_dropout_prob" is wrong; got 1/],
    [{}, 'classification', { labels: 0 }, /head: "labels" must be a positive integer; got 0/],
    [{}, 'embedding', { pooling: { mode: 'avg' as 'mean' } }, /pooling: unknown mode "avg"; expected one of cls, max, mean/],
    [{}, 'embedding', { pooling: { mode: [] } }, /pooling: no mode/],
  ];
  for (const [change, task, head, message] of refused)
    t.throws(() => createEncoder({ ...config, ...change }, task, head), { instanceOf: ConfigError, message });
});

interface MiniLm {
  cases: { text: string; ids: number[]; first_row: number[]; last_row: number[]; pooler: number[]; embedding: number[] }[];
  cosine: [string, string, number][];
}

test.serial('MiniLM: hidden states, pooler, sentence embeddings and similarities', async (t) => {
  const folder = dataFolder(t, 'all-minilm-l6-v2');
  if (folder === undefined) return;
  const { cases, cosine } = readJson<MiniLm>(folder, 'reference.json');
  const pooling = await readPooling(folder);
  t.deepEqual(pooling, { mode: ['mean'] });
  const { network } = await openEncoder(folder, 'embedding', { head: { pooling: { ...pooling, normalize: true } } });
  const embedder = network as BertForEmbedding;
  await scope(() => {
    const { input, context } = textBatch(cases.map(({ ids }) => ids));
    return noGrad(async () => {
      const hidden = embedder.hidden(input, context);
      const pooler = embedder.pooler?.forward(hidden, context) as Tensor;
      const embeddings = network.forward(input, context);
      const firstOf = async (x: Tensor, ...place: number[]): Promise<number[]> =>
        (await numbers(place.reduce((part, index) => select(part, 0, index), x))).slice(0, 16);
      for (const [b, { ids, first_row, last_row, pooler: pooled, embedding }] of cases.entries()) {
        near(t, await firstOf(hidden, b, 0), first_row, tolerance, 'first row');
        near(t, await firstOf(hidden, b, ids.length - 1), last_row, tolerance, 'last row');
        near(t, await firstOf(pooler, b), pooled, tolerance, 'pooler');
        near(t, await firstOf(embeddings, b), embedding, tolerance, 'embedding');
      }
      const tokenizer = await Tokenizer.fromFolder(folder);
      for (const { text, ids } of cases) t.deepEqual(tokenizer.encode(text), ids);
      for (const [one, other, expected] of cosine) {
        const pair = textBatch([one, other].map((text) => tokenizer.encode(text)));
        const both = network.forward(pair.input, pair.context);
        near(t, await numbers(sum(mul(select(both, 0, 0), select(both, 0, 1)))), [expected], tolerance, 'similarity');
      }
    });
  });
  network.dispose();
});

test.serial('MiniLM: other dtypes and 8-bit weights stay close to it', async (t) => {
  const folder = dataFolder(t, 'all-minilm-l6-v2');
  if (folder === undefined) return;
  const { cases } = readJson<MiniLm>(folder, 'reference.json');
  const head = { pooling: { normalize: true } };
  for (const options of [{ dtype: 'bf16' }, { dtype: 'f16' }, { storage: { type: 'int8' } }] as const) {
    const { network } = await openEncoder(folder, 'embedding', { head, ...options });
    const got = await scope(() => {
      const { input, context } = textBatch(cases.map(({ ids }) => ids));
      return numbers(noGrad(() => network.forward(input, context)));
    });
    for (const [b, { embedding }] of cases.entries()) near(t, got.slice(384 * b, 384 * b + 16), embedding, 5e-3, 'embedding');
    network.dispose();
  }
});

test.after.always('no tensor is left', (t) => {
  t.is(memory().tensors, 0);
});
