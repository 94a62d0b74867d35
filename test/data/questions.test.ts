import test from 'ava';
import { readQuestions, requireQuestions } from '#dist/data/questions.js';
import type { DataSource } from '#dist/data/source.js';

const completions = { prompt: 'Q: {q}\nA:', completion: ' {a}' };
const truth = { kind: 'truth', field: 'a' } as const;

test('a completion asks its prompt, a conversation what comes before the last turn of the assistant', async (t) => {
  const turns = [
    { role: 'user', content: 'one' },
    { role: 'assistant', content: 'two' },
    { role: 'user', content: 'three' },
  ];
  const tools = [{ type: 'function' }];
  const sources: DataSource[] = [
    { rows: [{ q: 'x?', a: true, n: 1 }], ...completions, task: 'n' },
    { rows: [{ m: [...turns, { role: 'assistant', content: 'four' }], a: 'false', tools }], messages: 'm', tools: 'tools', task: 0 },
    { rows: [{ m: turns.slice(0, 1), a: 'false' }], messages: 'm', task: 0 },
  ];
  t.deepEqual(await readQuestions(sources, truth), [
    { prompt: 'Q: x?\nA:', answer: 'true', where: 'row 1', task: 1 },
    { prompt: turns, tools, answer: 'false', where: 'row 1', task: 0 },
    { prompt: turns.slice(0, 1), answer: 'false', where: 'row 1', task: 0 },
  ]);
  t.is((await readQuestions(sources, { ...truth, rows: 2 })).length, 2);
});

test('answers that cannot be compared are errors with their row, or left out', async (t) => {
  const rows = [{ q: 'x', a: 3n }, { q: 'x' }, { q: 'x', a: 'three' }, { q: 'x', a: { b: 1 } }, { q: 'x', a: '4' }];
  const numbers = { kind: 'number', field: 'a' } as const;
  for (const [row, message] of [
    [1, /^row 1: no field "a"/],
    [2, /^row 1: field "a" is no number; got "three"/],
    [3, /^row 1: field "a" is no answer; got \{"b":1\}/],
  ] as const)
    await t.throwsAsync(
      readQuestions({ rows: [rows[row] as object as Record<string, unknown>], ...{ prompt: 'q', completion: 'q' } }, numbers),
      {
        code: 'format',
        message,
      },
    );
  for (const [kind, a, message] of [
    ['letter', 3, /^row 1: field "a" is no answer of kind "letter"; got 3, expected a letter from "A" to "E"/],
    ['truth', 'True', /is no answer of kind "truth"; got "True", expected "true" or "false"/],
    ['answer', 'answer2 or answer3', /is no answer of kind "answer"; got "answer2 or answer3", expected "answer1" to "answer5"/],
  ] as const)
    await t.throwsAsync(readQuestions({ rows: [{ q: 'x', a }], prompt: 'q', completion: 'q' }, { kind, field: 'a' }), {
      code: 'format',
      message,
    });
  const kept = await readQuestions({ rows, prompt: 'q', completion: 'q' }, { ...numbers, badRows: 'skip' });
  t.deepEqual(
    kept.map(({ answer }) => answer),
    [3, '4'],
  );
  const first = [{ role: 'assistant', content: 'x' }];
  await t.throwsAsync(readQuestions({ rows: [{ m: first, a: 'true' }], messages: 'm' }, truth), {
    code: 'format',
    message: /asks nothing/,
  });
});

test('rows of texts ask nothing', (t) => {
  t.throws(() => requireQuestions([{ path: 'a.jsonl', ...completions }, { path: 'b.txt' }]), {
    code: 'config',
    message: 'answers: rows of "b.txt" ask nothing; got a source of texts, expected "prompt" and "completion", or "messages"',
  });
});
