import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { type ChatMessage, encodeExample } from 'lorikeet/data';
import { Tokenizer } from 'lorikeet/io';
import { goldenFolder, readJson } from '../helpers/folders.js';
import { shippedModel } from '../helpers/shipped.js';

interface Case {
  readonly messages: ChatMessage[];
  readonly tools?: unknown[];
  readonly text: string;
  readonly ids: number[];
  /** Runs of learnt tokens, for templates with generation blocks. */
  readonly learnt?: [number, number][];
}

// Recorded from transformers by scripts/golden/chat_templates.py.
const golden = readJson<{ name: string; template: string; cases: Record<string, Case> }[]>(goldenFolder, 'data', 'chat-templates.json');

/** The shipped tokenizer with a chat template. */
function tokenizerWith(template: string): Tokenizer {
  const json = JSON.parse(readFileSync(join(shippedModel, 'tokenizer.json'), 'utf8'));
  return Tokenizer.fromData({
    json,
    source: 'golden',
    special: { bos: '<s>', eos: '</s>', unk: '<unk>' },
    templates: { default: template },
    stops: [],
  });
}

function runsOf(learnt: Uint8Array): [number, number][] {
  const runs: [number, number][] = [];
  for (let t = 0; t < learnt.length; t++) {
    if (learnt[t] !== 1) continue;
    const last = runs.at(-1);
    if (last?.[1] === t) last[1] = t + 1;
    else runs.push([t, t + 1]);
  }
  return runs;
}

for (const { name, template, cases } of golden) {
  test(`${name}: texts and learnt tokens are those of transformers`, async (t) => {
    const tokenizer = tokenizerWith(template);
    t.true(Object.keys(cases).length > 0);
    for (const [title, { messages, tools, text, ids, learnt }] of Object.entries(cases)) {
      const options = tools === undefined ? {} : { tools };
      t.is(tokenizer.applyChatTemplate(messages, options), text, title);
      if (learnt === undefined) continue;
      const sequence = await encodeExample({ kind: 'chat', messages, ...options, where: title }, tokenizer, 10_000);
      t.deepEqual([...sequence.ids], ids, title);
      t.deepEqual(runsOf(sequence.learnt), learnt, title);
    }
  });
}

const templateOf = (name: string): string => golden.find((entry) => entry.name === name)?.template ?? '';
const caseOf = (name: string, title: string): Case => golden.find((entry) => entry.name === name)?.cases[title] as Case;

async function learntText(tokenizer: Tokenizer, messages: readonly ChatMessage[], learn?: 'all' | 'last'): Promise<string> {
  const sequence = await encodeExample(
    { kind: 'chat', messages, ...(learn === undefined ? {} : { learn }), where: 'f:1' },
    tokenizer,
    10_000,
  );
  return tokenizer.decode([...sequence.ids].filter((_, t) => sequence.learnt[t] === 1));
}

test('without generation blocks, what the template writes for assistant turns is learnt', async (t) => {
  const { messages } = caseOf('qwen2_5', 'two turns');
  const tokenizer = tokenizerWith(templateOf('qwen2_5'));
  t.is(await learntText(tokenizer, messages), 'A zwölf-faced 😀 parrot.<|im_end|>\nSee you.\n\nSoon!<|im_end|>\n');
  t.is(await learntText(tokenizer, messages, 'last'), 'See you.\n\nSoon!<|im_end|>\n');
});

test('a template that rewrites earlier turns is an error that names the row; the last turn can be learnt', async (t) => {
  const { messages } = caseOf('qwen3', 'two turns');
  const tokenizer = tokenizerWith(templateOf('qwen3'));
  await t.throwsAsync(learntText(tokenizer, messages), {
    code: 'format',
    message: /^f:1: the chat template rewrites earlier turns, so the tokens of message 2 cannot be told apart; use `learn: last`, or/,
  });
  t.regex(await learntText(tokenizer, messages, 'last'), /See you\.\n\nSoon!<\|im_end\|>\n$/);
  const marked = tokenizerWith(templateOf('qwen3_training'));
  t.regex(await learntText(marked, messages, 'last'), /^<think>\n\n<\/think>\n\nSee you/);
});

test('a conversation cannot hold the marks of generation blocks', async (t) => {
  const tokenizer = tokenizerWith(templateOf('mistral-style'));
  const messages = [
    { role: 'user', content: 'a' },
    { role: 'assistant', content: 'b\ufdd1c' },
  ];
  await t.throwsAsync(learntText(tokenizer, messages), { code: 'format', message: /f:1: .*the messages hold U\+FDD0 or U\+FDD1/ });
  t.is(tokenizerWith(templateOf('qwen2_5')).applyChatTemplate(messages).includes('\ufdd1'), true);
});

test('a template that refuses a row names it; a model without a template is no fault of the row', async (t) => {
  const tokenizer = tokenizerWith(templateOf('mistral-style'));
  await t.throwsAsync(learntText(tokenizer, [{ role: 'system', content: 'a' }]), {
    code: 'format',
    message: /f:1: .*Only user and assistant roles are supported/,
  });
  const { json } = { json: JSON.parse(readFileSync(join(shippedModel, 'tokenizer.json'), 'utf8')) };
  const bare = Tokenizer.fromData({ json, source: 'bare', special: {}, templates: {}, stops: [] });
  await t.throwsAsync(learntText(bare, [{ role: 'user', content: 'a' }]), { code: 'config', message: /no chat template "default"/ });
});
