import { join } from 'node:path';
import test from 'ava';
import { encodeExample, type Sequence } from 'lorikeet/data';
import { Tokenizer } from 'lorikeet/io';
import { dataFolder } from '../helpers/folders.js';
import { shippedModel } from '../helpers/shipped.js';

const where = 'f:1';
const learntText = (tokenizer: Tokenizer, { ids, learnt }: Sequence): string =>
  tokenizer.decode(
    [...ids].filter((_, index) => learnt[index] === 1),
    { skipSpecialTokens: false },
  );

test('a conversation of SmolLM2: the assistant turns with their ends are learnt', async (t) => {
  const folder = dataFolder(t, 'smollm2-135m-instruct');
  if (folder === undefined) return;
  const tokenizer = Tokenizer.fromGguf(join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf'));
  const messages = [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: 'Hello there!' },
    { role: 'user', content: 'Bye' },
    { role: 'assistant', content: 'See you.' },
  ];
  const sequence = await encodeExample({ kind: 'chat', messages, where }, tokenizer, 512);
  t.is(learntText(tokenizer, sequence), 'Hello there!<|im_end|>\nSee you.<|im_end|>\n');
  t.deepEqual([...sequence.ids], tokenizer.encodeChat(messages));
});

test('a completion of SmolLM2 and of a Llama tokenizer ends with the end token and keeps the tokens of the prompt', async (t) => {
  const llama = await Tokenizer.fromFolder(shippedModel);
  const folder = dataFolder(t, 'smollm2-135m-instruct');
  const tokenizers = folder === undefined ? [llama] : [llama, Tokenizer.fromGguf(join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf'))];
  for (const tokenizer of tokenizers) {
    const prompt = 'Question: What is an annotated bibliography ?\nType:';
    const sequence = await encodeExample({ kind: 'completion', prompt, completion: ' description', where }, tokenizer, 512);
    const own = tokenizer.encode(prompt);
    t.deepEqual([...sequence.ids.subarray(0, own.length)], own);
    t.is(sequence.ids.at(-1), tokenizer.eosId);
    t.is(
      sequence.learnt.findIndex((flag) => flag === 1),
      own.length,
    );
    t.is(tokenizer.decode(sequence.ids.subarray(own.length)).trim(), 'description');
  }
});
