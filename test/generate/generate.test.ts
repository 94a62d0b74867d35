import test from 'ava';
import {
  CancelledError,
  ConfigError,
  generate,
  generateBatch,
  InvalidArgumentError,
  loadModel,
  type Model,
  memory,
  sample,
  scope,
} from 'lorikeet';
import { add, narrow, tensor } from 'lorikeet/ops';
import { goldenModel } from '../helpers/folders.js';
import { near, numbers } from '../helpers/numbers.js';
import { settledTensors } from '../helpers/settled-bytes.js';

const prompt = [4, 8, 15, 16, 23, 42];
const open = (name = 'llama-gqa-tied'): Promise<Model> => loadModel(goldenModel(name));

async function lastLogits(model: Model, ids: readonly number[]): Promise<number[]> {
  return scope(() => numbers(narrow(model.logits([ids]), 1, ids.length - 1, 1)));
}

for (const name of ['llama-gqa-tied', 'mistral-sliding', 'qwen2-sliding-layer-types', 'llama-rope-yarn']) {
  test.serial(`${name}: with the cache each token is what a pass over the whole text gives`, async (t) => {
    using model = await open(name);
    const { ids, logProbabilities } = await sample(model, prompt, { maxNewTokens: 12, endTokens: [] });
    for (const [i, id] of ids.entries()) {
      const logits = await lastLogits(model, [...prompt, ...ids.slice(0, i)]);
      t.is(logits.indexOf(Math.max(...logits)), id);
      const normaliser = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
      near(t, [logProbabilities[i] ?? 0], [(logits[id] ?? 0) - normaliser], 1e-4, 'log-probability');
    }
  });
}

test.serial('a batch of prompts of different lengths gives each its own result', async (t) => {
  using model = await open();
  const prompts = [prompt, [7], [9, 9, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]];
  for (const options of [{ temperature: 0 }, { temperature: 1.3, topK: 20, topP: 0.9, seed: 5, repetitionPenalty: 1.2 }]) {
    const shared = { maxNewTokens: 8, endTokens: [11, 23, 50, 60, 70], ...options };
    const batch = await generateBatch(model, prompts, shared);
    const alone = await Promise.all(prompts.map((ids, b) => sample(model, ids, { ...shared, seed: (options.seed ?? 0) + b })));
    t.deepEqual(batch, alone);
  }
});

test.serial('a seed gives one result, another seed another', async (t) => {
  using model = await open();
  const options = { maxNewTokens: 20, temperature: 1, endTokens: [] };
  const first = await sample(model, prompt, { ...options, seed: 1 });
  t.deepEqual(await sample(model, prompt, { ...options, seed: 1 }), first);
  t.notDeepEqual((await sample(model, prompt, { ...options, seed: 2 })).ids, first.ids);
});

test.serial('an end token and the end of the context end the text', async (t) => {
  using model = await open();
  const free = await sample(model, prompt, { maxNewTokens: 6, endTokens: [] });
  const end = free.ids[3] ?? 0;
  const ended = await sample(model, prompt, { maxNewTokens: 6, endTokens: [end] });
  t.deepEqual(ended.ids, free.ids.slice(0, free.ids.indexOf(end) + 1));
  t.is(ended.finishReason, 'end');
  const long = await sample(model, new Array(60).fill(3), { endTokens: [] });
  t.is(long.ids.length, 4);
  t.is(long.finishReason, 'length');
});

test.serial('logits processors choose what can be said', async (t) => {
  using model = await open();
  const only = 33;
  const bias = tensor(Array.from({ length: 97 }, (_, id) => (id === only ? 1000 : 0)));
  const lengths: number[] = [];
  const { ids } = await sample(model, prompt, {
    maxNewTokens: 3,
    endTokens: [],
    processors: [
      (logits, rows) => {
        lengths.push(rows[0]?.length ?? 0);
        return add(logits, bias);
      },
    ],
  });
  bias.dispose();
  t.deepEqual(ids, [only, only, only]);
  t.deepEqual(lengths, [6, 7, 8]);
});

test.serial('a repetition penalty changes what is repeated', async (t) => {
  using model = await open();
  const plain = await sample(model, prompt, { maxNewTokens: 30, endTokens: [] });
  const varied = await sample(model, prompt, { maxNewTokens: 30, endTokens: [], repetitionPenalty: 100 });
  t.true(new Set(varied.ids).size > new Set(plain.ids).size);
});

test.serial('a signal ends it, and leaving the loop early leaves nothing behind', async (t) => {
  using model = await open();
  // Makes the rotary tables, which stay with the model.
  await sample(model, prompt, { maxNewTokens: 1 });
  const before = await settledTensors();
  const controller = new AbortController();
  const generation = generate(model, prompt, {
    signal: controller.signal,
    maxNewTokens: 40,
    processors: [
      (logits, ids) => {
        if ((ids[0]?.length ?? 0) > 8) controller.abort();
        return logits;
      },
    ],
  });
  await t.throwsAsync(generation.sample(), { instanceOf: CancelledError });
  await t.throwsAsync(sample(model, prompt, { signal: AbortSignal.abort() }), { instanceOf: CancelledError });
  t.is(memory().tensors, before);
});

test.serial('bad options and prompts', async (t) => {
  using model = await open();
  const fails = (options: object, message: RegExp): void => {
    t.throws(() => generate(model, prompt, options), { instanceOf: InvalidArgumentError, message });
  };
  fails({ maxNewTokens: 0 }, /maxNewTokens is out of range; got 0/);
  fails({ temperature: -1 }, /temperature is out of range; got -1/);
  fails({ topP: 0 }, /topP is out of range/);
  fails({ topK: 1.5 }, /topK is out of range/);
  fails({ repetitionPenalty: 0 }, /repetitionPenalty is out of range/);
  t.throws(() => generate(model, []), { instanceOf: InvalidArgumentError, message: /the prompt has no tokens/ });
  t.throws(() => generate(model, new Array(64).fill(1)), {
    instanceOf: InvalidArgumentError,
    message: /leaves no room in the context; got 64 tokens, expected fewer than 64/,
  });
  t.throws(() => generate(model, 'text'), { instanceOf: ConfigError, message: /tokenizer/ });
  t.throws(() => generate(model, prompt, { stop: ['x'] }), { instanceOf: ConfigError, message: /tokenizer/ });
});

test.after.always('no tensor is left', (t) => {
  t.is(memory().tensors, 0);
});
