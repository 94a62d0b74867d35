// Encoders whose adapter is routed by task: every row goes through the model as its source says.
import test from 'ava';
import { attach, type EncoderTask, evaluate, loadModel, type TunedEncoder, train } from 'lorikeet';
import type { DataSource } from 'lorikeet/data';
import { opinions, tinyEncoder } from '../helpers/tiny-encoder.js';

const folder = tinyEncoder();
const adapter = { type: 'poly', tasks: 2, skills: 2, rank: 4, gates: 'sigmoid', targets: 'all-linear' } as const;
const training = { steps: 5, batch: 8, sequence: 24, learningRate: 1e-2, schedule: 'constant' } as const;

async function routed<T extends EncoderTask>(task: T, labels: readonly string[], use: (tuned: TunedEncoder<T>) => Promise<void>) {
  const model = await loadModel(folder, { task, dtype: 'f32', ...(labels.length === 0 ? {} : { labels }) });
  try {
    await use(await attach(model, adapter, { seed: 1 }));
  } finally {
    model.dispose();
  }
}

test.serial('two tasks that contradict each other are learnt at once', async (t) => {
  await routed('classification', ['contra', 'pro'], async (tuned) => {
    const other = opinions.map(({ text, label }) => ({ text, label: label === 'pro' ? 'contra' : 'pro' }));
    const sources: DataSource[] = [
      { rows: opinions, task: 0 },
      { rows: other.map((row) => ({ ...row, kind: 1 })), task: 'kind' },
    ];
    await train(tuned, { data: { train: sources }, training: { ...training, steps: 150, batch: 16 } });
    for (const source of sources) t.true(((await evaluate(tuned, source)).metrics.accuracy ?? 0) > 0.9);
    const texts = opinions.slice(0, 4).map(({ text }) => text);
    const [own, turned] = await Promise.all([0, 1].map((task) => tuned.predict(texts, { task })));
    t.deepEqual(
      own?.map(({ label }) => label),
      ['pro', 'contra', 'pro', 'contra'],
    );
    t.deepEqual(
      turned?.map(({ label }) => label),
      ['contra', 'pro', 'contra', 'pro'],
    );
    await t.throwsAsync(tuned.predict(texts), { code: 'adapter', message: /got no task/ });
  });
});

const kinds = {
  regression: { labels: [], rows: opinions.map(({ text, label }) => ({ text, label: label === 'pro' ? 1 : -1 })) },
  'token-classification': {
    labels: ['O', 'B'],
    rows: opinions.map(({ text }) => ({ tokens: text.trim().split(' ').slice(0, 2), tags: ['B', 'O'] })),
  },
  'masked-lm': { labels: [], rows: opinions.map(({ text }) => ({ text })) },
  embedding: { labels: [], rows: opinions.map(({ text }) => ({ anchor: text, positive: text.slice(0, -1) })) },
} as const satisfies { [T in EncoderTask]?: { labels: readonly string[]; rows: readonly object[] } };

for (const [task, { labels, rows }] of Object.entries(kinds)) {
  test.serial(`${task}: training and evaluation are routed`, async (t) => {
    await routed(task as keyof typeof kinds, labels, async (tuned) => {
      const sources = [0, 1].map((own) => ({ rows: rows as readonly object[], task: own }) as DataSource);
      const { evalLoss } = await train(tuned, { data: { train: sources, eval: sources[1] as DataSource }, training });
      const [first, second] = await Promise.all(sources.map((source) => evaluate(tuned, source)));
      t.not(first?.loss, second?.loss);
      t.true(Math.abs((second?.loss ?? 0) - (evalLoss ?? 0)) < 1e-9);
      await t.throwsAsync(evaluate(tuned, { rows } as DataSource), { code: 'adapter', message: /got no task/ });
      await t.throwsAsync(evaluate(tuned, [sources[0], { rows }] as DataSource[], { batch: 200 }), {
        code: 'format',
        message: /no task beside rows that have one/,
      });
    });
  });
}
