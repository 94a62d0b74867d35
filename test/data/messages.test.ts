import test from 'ava';
import { type ExampleFields, exampleOf } from 'lorikeet/data';

const read = (value: Record<string, unknown>, fields: ExampleFields = { messages: 'm' }) => exampleOf(fields)({ value, where: 'f:1' });

test('text parts of a content are joined', (t) => {
  const content = [{ type: 'text', text: 'a' }, { type: 'text', text: 'b' }, 'c'];
  t.like(read({ m: [{ role: 'user', content }] }), { messages: [{ role: 'user', content: 'abc' }] });
  t.throws(() => read({ m: [{ role: 'user', content: [{ type: 'image', url: 'x' }] }] }), {
    code: 'format',
    message: 'f:1: message 1 has a part that is not text; got {"type":"image","url":"x"}, expected { type: "text", text }',
  });
});

test('an assistant may call tools without a word', (t) => {
  const calls = [{ type: 'function', function: { name: 'f', arguments: {} } }];
  t.like(read({ m: [{ role: 'assistant', content: null, tool_calls: calls }] }), { messages: [{ content: '', tool_calls: calls }] });
  t.throws(() => read({ m: [{ role: 'assistant', content: null }] }), {
    code: 'format',
    message: /f:1: message 1 must have text "role" and "content", or "tool_calls"; got \{"role":"assistant","content":null\}/,
  });
});

test('a conversation may be the JSON text of a list, as tables hold it', (t) => {
  t.like(read({ m: '[{"role":"user","content":"a"}]' }), { messages: [{ role: 'user', content: 'a' }] });
  for (const m of ['[oops', 'a', [], {}]) t.throws(() => read({ m }), { message: /field "m" must be a list of messages; got / });
});

test('tools of a row: a list, its JSON text, or none', (t) => {
  const m = [{ role: 'user', content: 'a' }];
  const fields = { messages: 'm', tools: 'tools' };
  t.like(read({ m, tools: [{ name: 'f' }] }, fields), { tools: [{ name: 'f' }] });
  t.like(read({ m, tools: '[{"name":"f"}]' }, fields), { tools: [{ name: 'f' }] });
  for (const tools of [null, []]) t.false('tools' in read({ m, tools }, fields));
  t.throws(() => read({ m, tools: 'f' }, fields), { message: 'f:1: field "tools" must be a list of tools, or null; got "f"' });
  t.throws(() => read({ m, tool: [] }, fields), { message: /no field "tools"; got fields "m", "tool"; did you mean "tool"\?/ });
});

test('keys that need messages', (t) => {
  t.throws(() => exampleOf({ tools: 't' }), { code: 'config', message: 'data: "tools" needs "messages"' });
  t.throws(() => exampleOf({ field: 'a', learn: 'last' }), { code: 'config', message: 'data: "learn" needs "messages"' });
  t.like(read({ m: [{ role: 'user', content: 'a' }] }, { messages: 'm', learn: 'last' }), { learn: 'last' });
});
