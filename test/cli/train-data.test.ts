import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { readRecipe } from '#dist/recipe.js';
import { lastJson, lorikeet, temporaryFolder } from '../helpers/command-line.js';
import { shippedModel, shippedText } from '../helpers/shipped.js';

const folder = temporaryFolder();

function write(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

function recipe(name: string, data: string, training: string, model = shippedModel): string {
  return write(
    name,
    `model: ${model}
adapter: { type: lora, rank: 2, targets: all-linear }
data:
${data}
training: { steps: 3, batch: 2, sequence: 96, ${training} }
out: ${join(folder, `run-${name}`)}
`,
  );
}

test('packing, a mixture, bad rows and several held-out files', async (t) => {
  const bad = write('bad.jsonl', `{"text":"It was a bright cold day in April."}\noops\n`);
  const lines = write('lines.txt', 'Once upon a time.\nThe end.\n');
  const path = recipe(
    'packed.yaml',
    `  train: [{ path: ${shippedText('train')}, weight: 3 }, { path: ${bad}, weight: 1 }]\n  eval: [{ path: ${shippedText('dev')} }, { path: ${lines} }]\n  badRows: skip`,
    'packing: true',
  );
  const result = await lorikeet(['train', path, '--json']);
  t.is(result.code, 0, result.stderr);
  t.like(lastJson(result), { steps: 3 });
  t.is(typeof lastJson(result).evalLoss, 'number');
  t.regex(result.stderr, /packing: 360 rows in \d+ sequences, \d+\.\d% full/);
  t.regex(result.stderr, /data: left out 1 bad row of ".*bad\.jsonl": .*bad\.jsonl:2: not a JSON object/);
  const complete = readRecipe(join(folder, 'run-packed.yaml', 'recipe.yaml'));
  t.like(complete.data, { badRows: 'skip', train: [{ weight: 3 }, { weight: 1, path: bad }] });
  const again = await lorikeet(['train', path, '--resume', '--set', 'training.steps=4', '--json']);
  t.like(lastJson(again), { steps: 4 });
  const held = await lorikeet(['evaluate', '--recipe', path, '--json', '--max-length', '64']);
  t.like(lastJson(held), { sequences: 60 });
});

test('a streamed table in batches of similar length', async (t) => {
  const rows = Array.from({ length: 40 }, (_, row) => `"What is ${row}, and\n${'why '.repeat(row % 9)}?",${row % 2}\n`);
  const table = write('table.csv', `question,label\n${rows.join('')}`);
  const source = `{ path: ${table}, prompt: "Q: {question}\\nA:", completion: " {label}", labels: [even, odd], streaming: true }`;
  const result = await lorikeet(['train', recipe('table.yaml', `  train: ${source}\n  eval: ${source}`, 'lengthGrouped: true'), '--json']);
  t.is(result.code, 0, result.stderr);
  t.like(lastJson(result), { steps: 3 });
  const wrong = await lorikeet(['train', recipe('wrong.yaml', `  train: ${source}`, 'lengthGrouped: true, packing: true'), '--json']);
  t.is(wrong.code, 2);
  t.regex(wrong.stderr, /training\.lengthGrouped: packs are filled already/);
});

test('conversations with tools, learnt in generation blocks', async (t) => {
  const model = join(folder, 'chat-model');
  cpSync(shippedModel, model, { recursive: true });
  const config = JSON.parse(readFileSync(join(model, 'tokenizer_config.json'), 'utf8'));
  const template =
    "{% if tools %}{{ tools | length }} tools.{% endif %}{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}{{ m.content }}" +
    '{% for c in m.tool_calls or [] %}<{{ c.function.name }}>{% endfor %}{{ eos_token }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}';
  writeFileSync(join(model, 'tokenizer_config.json'), JSON.stringify({ ...config, chat_template: template }));
  const messages = [
    { role: 'user', content: [{ type: 'text', text: 'How warm is it?' }] },
    { role: 'assistant', content: null, tool_calls: [{ type: 'function', function: { name: 'warmth', arguments: {} } }] },
    { role: 'tool', content: '21' },
    { role: 'assistant', content: 'It is 21.' },
  ];
  const chats = write(
    'chats.jsonl',
    `${JSON.stringify({ chat: messages, functions: [{ name: 'warmth' }] })}\n${JSON.stringify({ chat: messages, functions: null })}\n`,
  );
  const source = `{ path: ${chats}, messages: chat, tools: functions, learn: last }`;
  const result = await lorikeet(['train', recipe('chat.yaml', `  train: ${source}`, 'packing: true', model), '--json']);
  t.is(result.code, 0, result.stderr);
  t.true((lastJson(result).loss as number) > 0);
});
