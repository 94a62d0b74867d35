import test from 'ava';
import { exampleOf } from 'lorikeet/data';

const row = (value: Record<string, unknown>) => ({ value, where: 'f.jsonl:3' });

test('text is the default field', (t) => {
  t.deepEqual(exampleOf({})(row({ text: 'a' })), { kind: 'text', text: 'a', where: 'f.jsonl:3' });
  t.deepEqual(exampleOf({ field: 'note' })(row({ note: 7 })), { kind: 'text', text: '7', where: 'f.jsonl:3' });
});

test('prompt and completion as field names and as templates', (t) => {
  t.like(exampleOf({ prompt: 'q', completion: 'a' })(row({ q: 'why', a: 'so' })), { prompt: 'why', completion: 'so' });
  t.like(exampleOf({ prompt: 'Question: {q}\n{{x}}', completion: ' {a}' })(row({ q: 'why', a: 'so' })), {
    prompt: 'Question: why\n{x}',
    completion: ' so',
  });
});

test('labels name the numbers of the completion and give the choices', (t) => {
  const toExample = exampleOf({ prompt: '{text}:{label}', completion: ' {label}', labels: ['no', 'yes'] });
  t.like(toExample(row({ text: 'a', label: 1 })), { prompt: 'a:1', completion: ' yes', choices: [' no', ' yes'] });
  t.like(toExample(row({ text: 'a', label: '0' })), { completion: ' no' });
  t.like(toExample(row({ text: 'a', label: 'yes' })), { completion: ' yes' });
  t.throws(() => toExample(row({ text: 'a', label: 2 })), {
    message: 'f.jsonl:3: field "label" is no label; got 2, expected 0 to 1 or one of no, yes',
  });
});

test('messages, also under `field`', (t) => {
  const messages = [{ role: 'user', content: 'hi' }];
  t.like(exampleOf({ messages: 'chat' })(row({ chat: messages })), { kind: 'chat', messages });
  t.like(exampleOf({ field: 'chat' })(row({ chat: messages })), { kind: 'chat', messages });
  t.throws(() => exampleOf({ messages: 'chat' })(row({ chat: [{ role: 'user' }] })), {
    message: /message 1 must have text "role" and "content"/,
  });
});

test('a missing field names the nearest one', (t) => {
  t.throws(() => exampleOf({})(row({ txet: 'a' })), {
    message: 'f.jsonl:3: no field "text"; got fields "txet"; did you mean "txet"?',
    code: 'format',
  });
  t.throws(() => exampleOf({})(row({ text: null })), { message: /field "text" is null/ });
  t.throws(() => exampleOf({})(row({ text: {} })), { message: /field "text" is not text; got an object/ });
});

test('contradicting fields', (t) => {
  t.throws(() => exampleOf({ field: 'a', messages: 'b' }), { message: /exclude each other/, code: 'config' });
  t.throws(() => exampleOf({ prompt: 'a' }), { message: /belong together; got only "prompt"/ });
  t.throws(() => exampleOf({ labels: ['a'] }), { message: /"labels" needs/ });
  t.throws(() => exampleOf({ prompt: 'a {b', completion: 'c' }), { message: /stray "\{"/ });
});
