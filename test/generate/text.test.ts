import test from 'ava';
import { ConfigError, generate, generateBatch, InvalidArgumentError, loadModel, memory, sample, type Tensor } from 'lorikeet';
import { tensor } from 'lorikeet/ops';
import { dataFolder } from '../helpers/folders.js';
import { shippedModel } from '../helpers/shipped.js';

const start = 'Once upon a time, there was a little girl named Lily.';

test.serial('pieces of a stream join to the text, and iterating leaves the whole result', async (t) => {
  const folder = dataFolder(t, 'llama-stories260k');
  if (folder === undefined) return;
  using model = await loadModel(folder);
  const pieces: string[] = [];
  const generation = generate(model, start, { maxNewTokens: 40 });
  for await (const piece of generation) pieces.push(piece);
  t.true(pieces.length > 10);
  const { text, ids, promptTokens, finishReason } = await generation.sample();
  t.is(pieces.join(''), text);
  t.is(ids.length, 40);
  t.is(finishReason, 'length');
  t.is(promptTokens, model.tokenizer.encode(start).length);
  t.is(
    text,
    ' She loved to play outside in the park. One day, she saw a big, red ball. She wanted to play with it, but it was too high.'.slice(
      0,
      text.length,
    ),
  );
});

test.serial('a stop text ends the text before it, also inside a token', async (t) => {
  const folder = dataFolder(t, 'llama-stories260k');
  if (folder === undefined) return;
  using model = await loadModel(folder);
  const whole = await generate(model, start, { maxNewTokens: 40 }).text();
  for (const stop of ['park.', 'ar', ' One']) {
    const pieces: string[] = [];
    const generation = generate(model, start, { maxNewTokens: 40, stop: [stop, 'never'] });
    for await (const piece of generation) pieces.push(piece);
    const { text, finishReason } = await generation.sample();
    t.is(text, whole.slice(0, whole.indexOf(stop)));
    t.is(pieces.join(''), text);
    t.is(finishReason, 'stop');
  }
});

test.serial('a batch of texts, each as it is alone', async (t) => {
  const folder = dataFolder(t, 'llama-stories260k');
  if (folder === undefined) return;
  using model = await loadModel(folder);
  const prompts = [start, 'Tom', 'One day, a dog and a cat'];
  const options = { maxNewTokens: 20, temperature: 0.8, topK: 40, stop: ['.'] };
  const batch = await generateBatch(model, prompts, { ...options, seed: 3 });
  for (const [b, prompt] of prompts.entries()) t.deepEqual(batch[b], await sample(model, prompt, { ...options, seed: 3 + b }));
  t.deepEqual(await generateBatch(model, []), []);
});

test.serial('an id that the model has and the tokenizer has not is no text', async (t) => {
  using model = await loadModel(shippedModel);
  const { tokenizer } = model;
  const prompt = tokenizer.encode(start);
  const known = tokenizer.encode(' big').at(-1) as number;
  const beyond = tokenizer.vocabSize + 3;
  t.deepEqual(
    [known, beyond].map((id) => tokenizer.hasToken(id)),
    [true, false],
  );
  const choices = [known, beyond];
  const forced = (_: Tensor, rows: readonly (readonly number[])[]): Tensor => {
    const logits = new Float32Array(beyond + 1);
    logits[choices[(rows[0]?.length ?? 0) - prompt.length] ?? 0] = 100;
    return tensor([[...logits]]);
  };
  const { ids, text } = await sample(model, prompt, { maxNewTokens: 2, processors: [forced] });
  t.deepEqual(ids, choices);
  t.is(text, tokenizer.decode([...prompt, known]).slice(tokenizer.decode(prompt).length));
});

test.serial('leaving the loop early stops the work', async (t) => {
  const folder = dataFolder(t, 'llama-stories260k');
  if (folder === undefined) return;
  using model = await loadModel(folder);
  const generation = generate(model, start, { maxNewTokens: 400 });
  for await (const _ of generation) if (generation.ids.length >= 3) break;
  t.true(generation.ids.length < 10);
});

test.serial('a conversation needs a chat template, an empty text a first token', async (t) => {
  const folder = dataFolder(t, 'llama-stories260k');
  if (folder === undefined) return;
  using model = await loadModel(folder);
  t.throws(() => generate(model, [{ role: 'user', content: 'Hi' }]), { instanceOf: ConfigError, message: /chat template/ });
  t.throws(() => generate(model, []), { instanceOf: InvalidArgumentError });
  t.is((await sample(model, '', { maxNewTokens: 4 })).promptTokens, 1);
});

test.after.always('no tensor is left', (t) => {
  t.is(memory().tensors, 0);
});
