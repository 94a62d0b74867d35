import { appendFileSync, copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { evaluate, memory, scope, type TrainOptions, train } from 'lorikeet';
import { loadDataset, packSequences } from 'lorikeet/data';
import { languageTask } from '#dist/tasks/language.js';
import { stepGradients } from '#dist/train/step.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { settledTensors } from '../helpers/settled-bytes.js';
import { shippedRows, withTuned } from '../helpers/shipped.js';

const folder = temporaryFolder();
const short = { batch: 2, sequence: 64, learningRate: 5e-3 } as const;

/** Rows of very different lengths. */
const texts = shippedRows(30).map((text, index) => text.slice(0, 20 + 13 * ((index * 7) % 17)));
const uneven = join(folder, 'uneven.jsonl');
writeFileSync(uneven, texts.map((text) => `${JSON.stringify({ text })}\n`).join(''));
const other = join(folder, 'other.txt');
writeFileSync(other, 'To be, or not to be.\nThat is the question.\nWhether it is nobler.\n');

const weights = (run: string): Buffer => readFileSync(join(run, 'adapter', 'adapter_model.safetensors'));
const run = (options: TrainOptions) => withTuned((tuned) => train(tuned, options).then(), { dropout: 0.1 });

test.serial('a packed step has the loss and gradient of its rows one by one', async (t) => {
  await withTuned(async (tuned) => {
    const set = await loadDataset({ rows: texts.slice(0, 6) }, tuned.tokenizer, { sequence: 128 });
    const rows = Array.from({ length: 6 }, (_, index) => set.at(index));
    const parameters = tuned.parameters();
    const gradientsOf = async (sequences: typeof rows, batch: number) => {
      const { loss, tokens } = await stepGradients(languageTask(tuned), parameters, { rows: sequences, batch, checkpointing: false });
      const values = await Promise.all(parameters.map((parameter) => scope(async () => (await parameter.grad?.data()) as Float32Array)));
      for (const parameter of parameters) parameter.clearGrad();
      return { loss, tokens, values };
    };
    const apart = await gradientsOf(rows, 6);
    const packed = await gradientsOf([packSequences(rows.slice(0, 4)), packSequences(rows.slice(4))], 2);
    t.is(packed.tokens, apart.tokens);
    t.true(Math.abs(packed.loss - apart.loss) < 1e-5, `${packed.loss} ${apart.loss}`);
    const largest = Math.max(...apart.values.map((values) => Math.max(...values.map(Math.abs))));
    for (const [index, values] of packed.values.entries()) {
      const worst = Math.max(...values.map((value, i) => Math.abs(value - (apart.values[index]?.[i] ?? 0))));
      t.true(worst <= 1e-5 * Math.max(1, largest), `${worst} of ${largest}`);
    }
    // What the model sees of a document does not depend on its neighbours: with the documents forgotten, the loss is another.
    const { starts: _, ...glued } = packSequences(rows.slice(0, 4));
    t.true(Math.abs((await gradientsOf([glued, ...rows.slice(4)], 3)).loss - apart.loss) > 1e-3);
  });
});

for (const [name, options] of Object.entries({
  packing: { data: { train: { path: uneven } }, training: { packing: true } },
  'length groups': { data: { train: { path: uneven } }, training: { lengthGrouped: true, accumulate: 2 } },
  mixing: {
    data: {
      train: [
        { path: uneven, weight: 1 },
        { path: other, weight: 2 },
      ],
    },
    training: {},
  },
  'mixing in file order': { data: { train: [{ path: uneven }, { path: other }] }, training: { shuffle: false } },
  'streaming, mixed and packed': {
    data: { train: [{ path: uneven, streaming: true }, { path: other }] },
    training: { packing: true },
  },
} satisfies Record<string, Pick<TrainOptions, 'data' | 'training'>>)) {
  test.serial(`${name}: a run that was cut goes on with the same bits`, async (t) => {
    const training = { ...short, steps: 7, saveEvery: 3, ...options.training };
    const [straight, cut] = ['straight', 'cut'].map((part) => join(folder, `${name}-${part}`)) as [string, string];
    await run({ data: options.data, training, out: straight });
    await withTuned(
      async (tuned) => {
        for await (const { step } of train(tuned, { data: options.data, training, out: cut })) if (step === 4) break;
      },
      { dropout: 0.1 },
    );
    await run({ data: options.data, training, out: cut, resume: true });
    t.deepEqual(weights(cut), weights(straight));
  });
}

test.serial('rows are the same whether they are streamed or in memory', async (t) => {
  const losses = [];
  for (const streaming of [false, true]) {
    for (const training of [{}, { packing: true }, { lengthGrouped: true }]) {
      const result = await run({
        data: { train: { path: uneven, streaming }, eval: { path: other, streaming } },
        training: { ...short, steps: 4, ...training },
      });
      losses.push([result.loss, result.evalLoss]);
    }
  }
  t.deepEqual(losses.slice(0, 3), losses.slice(3));
});

test.serial('evaluation takes several sources as one', async (t) => {
  await withTuned(async (tuned) => {
    const parts = [{ rows: texts.slice(0, 3) }, { path: other, streaming: true }];
    const one = await evaluate(tuned, parts);
    const all = await evaluate(tuned, [...texts.slice(0, 3), ...readFileSync(other, 'utf8').trim().split('\n')]);
    t.deepEqual([one.tokens, one.sequences], [all.tokens, all.sequences]);
    t.true(Math.abs(one.nll - all.nll) < 1e-12);
    const bad = [{ rows: [{ text: 'a b' }, { txt: 'c' }] }];
    await t.throwsAsync(evaluate(tuned, bad), { code: 'format', message: /row 2: no field "text"/ });
    t.is((await evaluate(tuned, bad, { badRows: 'skip' })).sequences, 1);
    const labelled = {
      rows: [
        { q: 'a', l: 0 },
        { q: 'b', l: 7 },
      ],
      prompt: 'q',
      completion: '{l}',
      labels: ['x', 'y'],
    };
    t.is((await evaluate(tuned, [labelled, ...bad], { badRows: 'skip' })).accuracy !== undefined, true);
  });
});

test.serial('bad rows are left out and told', async (t) => {
  const path = join(folder, 'bad.jsonl');
  writeFileSync(path, `${readFileSync(uneven, 'utf8')}oops\n{"txt":"a"}\n`);
  const source = { path, streaming: false };
  await t.throwsAsync(run({ data: { train: source }, training: { ...short, steps: 1 } }), {
    code: 'format',
    message: /bad\.jsonl:31: not a JSON object/,
  });
  for (const streaming of [false, true]) {
    const notices: string[] = [];
    const data = { train: { path, streaming }, badRows: 'skip' } as const;
    await run({ data, training: { ...short, steps: 17, batch: 2, sequence: 16 }, onNotice: (message) => notices.push(message) });
    t.is(notices.length, 1, notices.join('\n'));
    t.regex(notices[0] ?? '', /^data: left out 2 bad rows of "\S+bad\.jsonl": .*bad\.jsonl:3[12]: /);
  }
});

test.serial('packing tells how full its sequences are', async (t) => {
  const notices: string[] = [];
  await run({
    data: { train: { path: uneven } },
    training: { ...short, steps: 1, packing: true },
    onNotice: (message) => notices.push(message),
  });
  t.regex(notices.join(), /^packing: 30 rows in \d+ sequences, \d\d\.\d% full$/);
});

test.serial('a streamed file that changes ends the run with its last step saved', async (t) => {
  const path = join(folder, 'vanishing.jsonl');
  copyFileSync(uneven, path);
  const out = join(folder, 'vanishing');
  const before = await settledTensors();
  await withTuned(async (tuned) => {
    const steps = train(tuned, { data: { train: { path, streaming: true } }, training: { ...short, steps: 30 }, out });
    await t.throwsAsync(
      async () => {
        for await (const { step } of steps) if (step === 2) rmSync(path);
      },
      { code: 'format', message: /vanishing\.jsonl: the file is gone while it is streamed/ },
    );
  });
  t.is(memory().tensors, before);
  t.true(existsSync(join(out, 'checkpoints', 'step-2', 'state.json')) || existsSync(join(out, 'checkpoints', 'step-3', 'state.json')));
});

test.serial('a run does not go on with other data', async (t) => {
  const path = join(folder, 'changing.jsonl');
  copyFileSync(uneven, path);
  const out = join(folder, 'changing');
  const training = { ...short, steps: 2 };
  await run({ data: { train: { path } }, training, out });
  const more = { training: { ...training, steps: 3 }, out, resume: true };
  await t.throwsAsync(run({ data: { train: [{ path }, { path: other }] }, ...more }), {
    code: 'config',
    message: /has other data; got 2 sources, expected 1; put the data back/,
  });
  await t.throwsAsync(run({ data: { train: { path } }, ...more, training: { ...more.training, lengthGrouped: true } }), {
    code: 'config',
    message: /training\.lengthGrouped differs.*got true, expected false/,
  });
  appendFileSync(path, '{"text":"one more"}\n');
  await t.throwsAsync(run({ data: { train: { path } }, ...more }), {
    code: 'config',
    message:
      /resume: "\S+changing\.jsonl" is not the data of the run in "\S+"; got 31 rows, expected 30 rows; put the data back as it was, or begin/,
  });
  copyFileSync(uneven, path);
  t.is((await run({ data: { train: { path } }, ...more })).steps, 3);
});

test.serial('without shuffle, sources take turns by weight', async (t) => {
  const train_ = [
    { rows: [texts[0] ?? ''], weight: 1 },
    { rows: [texts[1] ?? ''], weight: 3 },
  ];
  const losses = await withTuned(async (tuned) => {
    const seen = [];
    const settings = { ...short, batch: 1, steps: 8, learningRate: 1e-30, shuffle: false };
    for await (const { loss } of train(tuned, { data: { train: train_ }, training: settings })) seen.push(loss.toFixed(6));
    return seen;
  });
  const [first, second] = new Set(losses);
  t.deepEqual(losses.filter((loss) => loss === first).length, 6);
  t.deepEqual(losses.filter((loss) => loss === second).length, 2);
});
