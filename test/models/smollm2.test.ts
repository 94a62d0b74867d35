import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { loadModel, memory, noGrad, sample, scope } from 'lorikeet';
import { narrow } from 'lorikeet/ops';
import { dataFolder, readJson } from '../helpers/folders.js';
import { near, numbers, rangeOf } from '../helpers/numbers.js';

interface Reference {
  cases: { text: string; ids: number[]; top_ids: number[]; top_logits: number[] }[];
  chats: { prompt: string; prompt_text: string; prompt_ids: number[]; new_ids: number[]; text: string }[];
  mean_nll: Record<string, { nll: number; tokens: number; documents: number }>;
}

test('the GGUF file as it is: tokens, logits, loss and greedy chats in f32', async (t) => {
  const folder = dataFolder(t, 'smollm2-135m-instruct');
  if (folder === undefined) return;
  const { cases, chats, mean_nll } = readJson<Reference>(folder, 'reference.json');
  using model = await loadModel(join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf'));
  t.is(model.dtype, 'f32');

  for (const { text, ids, top_ids, top_logits } of cases) {
    t.deepEqual(model.tokenizer.encode(text, { addSpecialTokens: false }), ids);
    const logits = await scope(() => numbers(narrow(model.logits([ids]), 1, ids.length - 1, 1)));
    near(
      t,
      top_ids.map((id) => logits[id] ?? Number.NaN),
      top_logits,
      2e-4 * rangeOf(logits),
      `logits of "${text}"`,
    );
    t.is(logits.indexOf(Math.max(...logits)), top_ids[0] ?? -1);
  }

  for (const chat of chats) {
    const messages = [{ role: 'user', content: chat.prompt }];
    t.is(model.tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true }), chat.prompt_text);
    const got = await sample(model, messages, { maxNewTokens: chat.new_ids.length });
    t.deepEqual(got.ids, chat.new_ids);
    t.is(got.text, chat.text);
  }

  // The first documents of the recorded set, as many as a test can afford; the whole set is for the benches.
  const [[, expected] = []] = Object.entries(mean_nll).filter(([name]) => name.startsWith('math-word-problems'));
  const questions = dataFolder(t, 'math-word-problems');
  if (questions === undefined || expected === undefined) return;
  const rows = readFileSync(join(questions, 'SVAMP.dev.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .slice(0, expected.documents)
    .map((line) => (JSON.parse(line) as { instruction: string }).instruction);
  const ids = rows.map((row) => model.tokenizer.encode(row, { addSpecialTokens: false }));
  let total = 0;
  let tokens = 0;
  for (let start = 0; start < ids.length; start += 20) {
    const batch = ids.slice(start, start + 20);
    total += await scope(() => noGrad(() => model.loss({ ids: batch, reduction: 'sum' }).item()));
    tokens += batch.reduce((sum, row) => sum + row.length - 1, 0);
  }
  t.is(tokens, expected.tokens);
  near(t, [total / tokens], [expected.nll], 1e-3, 'mean loss');
});

test.after.always('no tensor is left', (t) => {
  t.is(memory().tensors, 0);
});
