import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { evaluate, loadModel } from 'lorikeet';
import { encodeCompletion } from 'lorikeet/data';
import { sequenceLosses } from '#dist/tasks/language.js';
import { dataFolder } from '../helpers/folders.js';
import { shippedModel, shippedRows, shippedText, withTuned } from '../helpers/shipped.js';

/** The references are float64; float32 sums of some 20,000 token losses stay within this. */
const kTolerance = 2e-5;

test('mean losses of the reference: Shakespeare', async (t) => {
  const folder = dataFolder(t, 'shakespeare');
  if (folder === undefined) return;
  const text = readFileSync(join(folder, 'dev.txt'), 'utf8');
  const pieces = Array.from({ length: 60 }, (_, index) => text.slice(index * 600, (index + 1) * 600));
  const model = await loadModel(shippedModel);
  const result = await evaluate(model, pieces);
  model.dispose();
  t.is(result.sequences, 60);
  t.is(result.tokens, 22461);
  t.true(Math.abs(result.nll - 4.985277) < kTolerance, String(result.nll));
  t.true(Math.abs(result.perplexity - Math.exp(result.nll)) < 1e-9);
});

test('mean losses of the reference: math questions of a field, whatever the batch', async (t) => {
  const folder = dataFolder(t, 'math-word-problems');
  if (folder === undefined) return;
  const lines = readFileSync(join(folder, 'SVAMP.dev.jsonl'), 'utf8').split('\n').slice(0, 150);
  const source = { rows: lines.map((line) => JSON.parse(line) as Record<string, unknown>), field: 'instruction' };
  const model = await loadModel(shippedModel);
  const result = await evaluate(model, source, { batch: 16 });
  const other = await evaluate(model, source, { batch: 3 });
  model.dispose();
  t.is(result.tokens, 14515);
  t.true(Math.abs(result.nll - 3.166469) < kTolerance, String(result.nll));
  t.is(other.nll, result.nll);
});

test('labels: the likeliest label is counted', async (t) => {
  await withTuned(async (tuned) => {
    const rows = [
      { text: 'Once upon a time there was a little', label: 0 },
      { text: 'Once upon a time there was a little', label: 1 },
    ];
    const source = { rows, prompt: '{text}', completion: ' {label}', labels: ['girl', 'xylophone'] };
    const result = await evaluate(tuned, source);
    t.is(result.accuracy, 0.5);
    t.is(result.sequences, 2);
    t.is((await evaluate(tuned, { ...source, rows: rows.slice(0, 1) })).accuracy, 1);
  });
});

test('labels of one token, scored together, win where their likelihood is highest', async (t) => {
  await withTuned(async (tuned) => {
    const rows = shippedRows(12).map((text, index) => ({ text: text.slice(0, 20 + 7 * index), label: index % 3 }));
    const labels = ['a', 'I', 's'];
    const { accuracy } = await evaluate(tuned, { rows, prompt: '{text}', completion: ' {label}', labels });
    let right = 0;
    for (const { text, label } of rows) {
      const sequences = await Promise.all(
        labels.map(async (word) => {
          const { ids, promptLength } = await encodeCompletion(tuned.tokenizer, text, ` ${word}`);
          return { ids: Int32Array.from(ids), learnt: new Uint8Array(ids.length).fill(1, promptLength), where: text };
        }),
      );
      const losses = await sequenceLosses(tuned, sequences);
      if (losses.indexOf(Math.min(...losses)) === label) right++;
    }
    t.is(accuracy, right / rows.length);
  });
});

test('rows that can be read only once have an accuracy; those that do not fit are left out where bad rows are', async (t) => {
  await withTuned(async (tuned) => {
    const long = { text: 'Once upon a time there was a little girl. '.repeat(8), label: 0 };
    const rows = [{ text: 'Once upon a time there was a little', label: 0 }, long];
    const source = { prompt: '{text}', completion: ' {label}', labels: ['girl', 'xylophone'] };
    t.is((await evaluate(tuned, { ...source, rows: rows.slice(0, 1).values() })).accuracy, 1);
    await t.throwsAsync(evaluate(tuned, { ...source, rows }, { maxLength: 40 }), { message: /row 2: prompt and label do not fit/ });
    t.is((await evaluate(tuned, { ...source, rows }, { maxLength: 40, badRows: 'skip' })).accuracy, 1);
  });
});

test('rows are cut, empty ones predict nothing', async (t) => {
  await withTuned(async (tuned) => {
    const result = await evaluate(tuned, ['Once upon a time', ''], { maxLength: 3 });
    t.is(result.tokens, 2);
    t.is(result.sequences, 2);
    await t.throwsAsync(evaluate(tuned, ['']), { message: /has no token to predict/ });
    await t.throwsAsync(evaluate(tuned, { path: shippedText('dev') }, { signal: AbortSignal.abort() }), { code: 'cancelled' });
  });
});
