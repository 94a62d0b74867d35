import test from 'ava';
import { loadModel, type Model, memory, noGrad, sample, scope } from 'lorikeet';
import { narrow } from 'lorikeet/ops';
import { dataFolder, readJson } from '../helpers/folders.js';
import { near, numbers, rangeOf } from '../helpers/numbers.js';

interface Reference {
  cases: { text: string; ids: number[]; logits_last: number[]; nll_per_token: number[] }[];
  greedy: { prompt_ids: number[]; ids: number[]; text: string }[];
}

async function lastLogits(model: Model, ids: number[]): Promise<number[]> {
  return scope(() => numbers(narrow(model.logits([ids]), 1, ids.length - 1, 1)));
}

/** Loss of each prediction of a row. */
async function lossByToken(model: Model, ids: number[]): Promise<number[]> {
  const losses = await scope(() => numbers(noGrad(() => model.loss({ ids: [ids], reduction: 'none' }))));
  return losses.slice(0, -1);
}

test('f32: logits, loss of every token and greedy text are those of the reference', async (t) => {
  const folder = dataFolder(t, 'llama-stories260k');
  if (folder === undefined) return;
  const { cases, greedy } = readJson<Reference>(folder, 'reference.json');
  using model = await loadModel(folder);
  t.is(model.dtype, 'f32');
  for (const { text, ids, logits_last, nll_per_token } of cases) {
    t.deepEqual(model.tokenizer.encode(text), ids);
    near(t, await lastLogits(model, ids), logits_last, 1e-4, `logits of "${text}"`);
    near(t, await lossByToken(model, ids), nll_per_token, 1e-4, `loss of "${text}"`);
  }
  for (const { prompt_ids, ids, text } of greedy) {
    const got = await sample(model, prompt_ids, { maxNewTokens: ids.length - prompt_ids.length });
    t.deepEqual([...prompt_ids, ...got.ids], ids);
    t.is(model.tokenizer.decode([...prompt_ids, ...got.ids]), text);
  }
});

for (const dtype of ['bf16', 'f16'] as const) {
  test(`${dtype}: loss within 2e-2, logits within 2 % of their range`, async (t) => {
    const folder = dataFolder(t, 'llama-stories260k');
    if (folder === undefined) return;
    using model = await loadModel(folder, { dtype });
    const { cases } = readJson<Reference>(folder, 'reference.json');
    for (const { text, ids, logits_last } of cases)
      near(t, await lastLogits(model, ids), logits_last, 0.02 * rangeOf(logits_last), `logits of "${text}"`);
    const expected = cases.flatMap(({ nll_per_token }) => nll_per_token);
    const mean = expected.reduce((sum, value) => sum + value, 0) / expected.length;
    const rows = cases.map(({ ids }) => ids);
    near(t, [await scope(() => noGrad(() => model.loss({ ids: rows }).item()))], [mean], 2e-2, 'mean loss of all tokens');
  });
}

test.after.always('no tensor is left', (t) => {
  t.is(memory().tensors, 0);
});
