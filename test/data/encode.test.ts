import test from 'ava';
import { collate, encodeExample, loadDataset } from 'lorikeet/data';
import { code, letters as tokenizer } from '../helpers/letters.js';

const where = 'f:1';

test('a text gets the special tokens of the tokenizer and nothing after it', async (t) => {
  const { ids, learnt } = await encodeExample({ kind: 'text', text: 'abc', where }, tokenizer, 10);
  t.deepEqual([...ids], [1, ...code('abc')]);
  t.deepEqual([...learnt], [0, 1, 1, 1]);
});

test('a completion ends with the end token, and only it is learnt', async (t) => {
  const { ids, learnt } = await encodeExample({ kind: 'completion', prompt: 'ab', completion: 'c', where }, tokenizer, 10);
  t.deepEqual([...ids], [1, ...code('abc'), 2]);
  t.deepEqual([...learnt], [0, 0, 0, 1, 1]);
});

test('of a conversation the assistant turns with their ends are learnt', async (t) => {
  const messages = [
    { role: 'user', content: 'u' },
    { role: 'assistant', content: 'xy' },
    { role: 'user', content: 'v' },
    { role: 'assistant', content: 'z' },
  ];
  const { ids, learnt } = await encodeExample({ kind: 'chat', messages, where }, tokenizer, 100);
  t.is(String.fromCharCode(...ids), '[u]u;[a]xy;[u]v;[a]z;');
  t.is(String.fromCharCode(...ids.filter((_, index) => learnt[index] === 1)), 'xy;z;');
});

test('tools of a row reach the template; of the turns only the last may be learnt', async (t) => {
  const messages = [
    { role: 'user', content: 'u' },
    { role: 'assistant', content: 'xy' },
    { role: 'tool', content: '3' },
    { role: 'assistant', content: 'z' },
  ];
  const { ids, learnt } = await encodeExample({ kind: 'chat', messages, tools: [{}], learn: 'last', where }, tokenizer, 100);
  t.is(String.fromCharCode(...ids), '{1 tools}[u]u;[a]xy;[t]3;[a]z;');
  t.is(String.fromCharCode(...ids.filter((_, index) => learnt[index] === 1)), 'z;');
});

test('sequences are cut', async (t) => {
  const { ids, learnt } = await encodeExample({ kind: 'text', text: 'abcdef', where }, tokenizer, 4);
  t.deepEqual([...ids], [1, ...code('abc')]);
  t.is(learnt.length, 4);
});

test('a batch holds what the model reads and the token after each', async (t) => {
  const rows = await Promise.all(['abc', 'a'].map((text) => encodeExample({ kind: 'text', text, where }, tokenizer, 10)));
  t.deepEqual(collate(rows), { ids: [[1, 97, 98], [1]], targets: [[97, 98, 99], [97]], tokens: 6, targetCount: 4 });
  const completion = await encodeExample({ kind: 'completion', prompt: 'ab', completion: 'c', where }, tokenizer, 10);
  t.deepEqual(collate([completion]).targets, [[-100, -100, 99, 2]]);
});

test('rows with nothing to learn are errors that say so, or left out', async (t) => {
  const source = { rows: ['abc', ''] };
  await t.throwsAsync(loadDataset(source, tokenizer, { sequence: 8 }), {
    message: /row 2: nothing to learn; got 1 token, expected at least 2; use `emptyRows: skip`/,
  });
  t.is((await loadDataset(source, tokenizer, { sequence: 8, emptyRows: 'skip' })).length, 1);
  t.is((await loadDataset(source, tokenizer, { sequence: 8, emptyRows: 'keep' })).length, 2);
  const long = { rows: [{ q: 'abcdef', a: 'g' }], prompt: 'q', completion: 'a' };
  await t.throwsAsync(loadDataset(long, tokenizer, { sequence: 4 }), {
    message: /row 1: nothing to learn; what comes before the completion fills all 4 tokens/,
  });
  await t.throwsAsync(loadDataset({ rows: [] }, tokenizer, { sequence: 4 }), { message: /has no rows/, code: 'config' });
});
