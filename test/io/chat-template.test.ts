import test from 'ava';
import { ConfigError, InvalidArgumentError } from 'lorikeet';
import { ChatTemplates, strftime } from '#dist/io/chat-template.js';

const templates = (texts: Record<string, string>): ChatTemplates => new ChatTemplates('x', texts, { bos: '<s>', eos: '</s>' });
const render = (text: string, messages = [{ role: 'user', content: 'Hi' }], options = {}): string =>
  templates({ default: text }).render(messages, options);

test('messages, special tokens, the generation prompt and other variables', (t) => {
  const text =
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m['content'] | trim }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}{{ mood }}";
  t.is(render(text), '<s>[user] Hi</s>');
  t.is(
    render(
      text,
      [
        { role: 'user', content: ' a ' },
        { role: 'assistant', content: 'b' },
      ],
      { addGenerationPrompt: true, variables: { mood: '!' } },
    ),
    '<s>[user] a</s>[assistant] b</s>[assistant]!',
  );
});

test('blocks take their line, as transformers sets it', (t) => {
  t.is(render('{% for m in messages %}\n  {% if true %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}\nend'), 'Hi\nend');
});

test('tools are written as JSON; the template for tools is chosen when there is one', (t) => {
  const tools = [{ type: 'function', function: { name: 'f', parameters: { a: [1, true, null], é: 'ö' } } }];
  t.is(
    render('{{ tools | tojson }}', [], { tools }),
    '[{"type": "function", "function": {"name": "f", "parameters": {"a": [1, true, null], "é": "ö"}}}]',
  );
  t.is(render('{{ tools is none }}'), 'true');
  const two = templates({ default: 'plain', tool_use: 'tools' });
  t.is(two.render([]), 'plain');
  t.is(two.render([], { tools }), 'tools');
  t.is(two.render([], { template: 'tool_use' }), 'tools');
});

test('generation blocks are told in code points, and leave no mark in the text', (t) => {
  const text = '{% for m in messages %}{{ m.role }}: {%- generation %}\n{{ m.content }}{% endgeneration -%}\n !{% endfor %}';
  const messages = [
    { role: '😀', content: 'Hé' },
    { role: 'b', content: '' },
  ];
  const marked = templates({ default: text }).renderMarked(messages);
  t.deepEqual(marked, {
    text: '😀:Hé!b:!',
    generated: [
      [2, 4],
      [7, 7],
    ],
  });
  t.is(render(text, messages), marked.text);
  t.is(templates({ default: 'a' }).renderMarked([]).generated, undefined);
});

test('a template may refuse messages', (t) => {
  const text = "{% if messages[0].role != 'user' %}{{ raise_exception('Roles must alternate') }}{% endif %}ok";
  t.is(render(text), 'ok');
  t.throws(() => render(text, [{ role: 'system', content: '' }]), {
    instanceOf: InvalidArgumentError,
    message: 'applyChatTemplate: the template refuses these messages: Roles must alternate',
  });
  t.throws(() => templates({ default: 'x' }).render('hello' as never), {
    instanceOf: InvalidArgumentError,
    message: /messages must be a list/,
  });
});

test('missing, unknown and broken templates are config errors', (t) => {
  t.throws(() => templates({}).render([]), { instanceOf: ConfigError, message: /x has no chat template "default"; it has none/ });
  t.throws(() => templates({ default: 'a' }).render([], { template: 'toString' }), {
    instanceOf: ConfigError,
    message: /no chat template "toString"; expected one of default/,
  });
  t.throws(() => render('{% for %}'), { instanceOf: ConfigError, message: /template "default" of x cannot be parsed/ });
  t.throws(() => render('{{ messages.foo() }}'), { instanceOf: ConfigError, message: /template "default" of x fails/ });
});

test('a template cannot fill the memory by counting', (t) => {
  t.is(render('{% for i in range(3) %}{{ i }}{% endfor %}{% for i in range(5, 1, -2) %}{{ i }}{% endfor %}'), '01253');
  t.throws(() => render('{{ range(1000000000) | length }}'), {
    instanceOf: InvalidArgumentError,
    message: /range: too long; got 1000000000/,
  });
});

test('strftime names days and times in English', (t) => {
  const date = new Date(2026, 6, 5, 0, 7, 9);
  t.is(strftime('%d %B %Y, %b %e %a %A %y-%m %H:%M:%S %I %p %% %q', date), '05 July 2026, Jul  5 Sun Sunday 26-07 00:07:09 12 AM % %q');
  t.regex(render("{{ strftime_now('%Y') }}"), /^20\d\d$/);
});
