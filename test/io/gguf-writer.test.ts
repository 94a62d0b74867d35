import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { attach, CancelledError, ConfigError, generate, InvalidArgumentError, loadModel } from 'lorikeet';
import { readGguf, saveGguf, writeGguf } from 'lorikeet/io';
import { preTokenizerNameOf, preTokenizerOf } from '#dist/io/gguf/pre-tokenizers.js';
import { halfRoundTrip, quantizeQ8 } from '#dist/io/gguf/storage.js';
import { golden, loadTiny, logitsOf, relativeError, sameBits } from '../helpers/adapters.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { shippedModel } from '../helpers/shipped.js';

const folder = temporaryFolder();
const ids = [5, 17, 60, 3, 88, 41, 9];
const texts = ['Once upon a time, there was a cat.', ' two  spaces, 1234 digits', 'naïve café — 東京 🙂', '', 'line\n\nend '];

for (const name of [
  'llama-gqa-tied',
  'llama-biases-untied',
  'llama-rope-linear',
  'llama-rope-yarn',
  'mistral-full-head-dim',
  'mistral-sliding',
  'qwen2-tied',
  'qwen3-head-dim',
]) {
  test.serial(`${name} as GGUF computes the same logits`, async (t) => {
    const model = await loadTiny(`models/${name}`);
    const file = join(folder, `${name}.gguf`);
    await saveGguf(model, file);
    const again = await loadModel(file);
    t.true(sameBits(await logitsOf(again, ids), await logitsOf(model, ids)));
    again.dispose();
    model.dispose();
  });
}

for (const [type, tolerance] of [
  ['f16', 1e-2],
  ['bf16', 5e-2],
  ['q8_0', 5e-2],
] as const) {
  test.serial(`matrices as ${type}, vectors as F32`, async (t) => {
    const model = await loadTiny();
    const file = join(folder, `${type}.gguf`);
    await saveGguf(model, file, { type });
    const { tensors, metadata } = readGguf(file);
    t.is(tensors.get('blk.0.attn_norm.weight')?.type.name, 'F32');
    t.is(tensors.get('blk.0.attn_q.weight')?.type.name, type.toUpperCase());
    t.is(metadata.get('general.file_type'), { f16: 1, bf16: 32, q8_0: 7 }[type]);
    const again = await loadModel(file);
    const error = relativeError(await logitsOf(again, ids), await logitsOf(model, ids));
    t.true(error > 0 && error < tolerance, String(error));
    again.dispose();
    model.dispose();
  });
}

test.serial('a merged model goes into a GGUF file with its tokenizer and chat behaviour', async (t) => {
  const model = await loadModel(shippedModel);
  const tuned = await attach(model, { type: 'lora', rank: 4, init: false, targets: 'all-linear' });
  await tuned.merge();
  const file = join(folder, 'merged.gguf');
  await saveGguf(model, file);
  const again = await loadModel(file);
  for (const text of texts) t.deepEqual(again.tokenizer.encode(text), model.tokenizer.encode(text), text);
  const prompt = model.tokenizer.encode('Once upon a time');
  t.true(sameBits(await logitsOf(again, prompt), await logitsOf(model, prompt)));
  const [one, two] = await Promise.all(
    [again, model].map(async (each) => {
      let text = '';
      for await (const piece of generate(each, 'Once upon', { maxNewTokens: 12, temperature: 0 })) text += piece;
      return text;
    }),
  );
  t.is(one, two);
  again.dispose();
  model.dispose();
});

for (const name of ['tiny-llama', 'tiny-qwen2']) {
  test.serial(`${name}: from GGUF by way of a model to GGUF, with its byte-level tokenizer`, async (t) => {
    const model = await loadModel(join(golden, 'gguf', `${name}.gguf`));
    const file = join(folder, `${name}-again.gguf`);
    await saveGguf(model, file);
    const again = await loadModel(file);
    for (const text of texts) t.deepEqual(again.tokenizer.encode(text), model.tokenizer.encode(text), text);
    t.true(sameBits(await logitsOf(again, ids), await logitsOf(model, ids)));
    t.is(readGguf(file).metadata.get('tokenizer.ggml.pre'), name === 'tiny-llama' ? 'smollm' : 'qwen2');
    again.dispose();
    model.dispose();
  });
}

test('what has no GGUF form is refused before anything is written', async (t) => {
  const model = await loadTiny('models/llama-rope-dynamic');
  const file = join(folder, 'dynamic.gguf');
  await t.throwsAsync(saveGguf(model, file), { instanceOf: ConfigError, message: /rotary scaling "dynamic" has no GGUF form/ });
  await t.throwsAsync(saveGguf(model, file, { type: 'q4_0' as 'f16' }), { instanceOf: ConfigError });
  const yarn = await loadTiny('models/llama-rope-yarn-factor');
  await t.throwsAsync(saveGguf(yarn, file), { instanceOf: ConfigError, message: /without truncation has no GGUF form/ });
  t.false(existsSync(file));
  yarn.dispose();
  model.dispose();
});

test('writing tells its progress and leaves nothing when it is cancelled', async (t) => {
  const model = await loadTiny();
  const file = join(folder, 'cancelled.gguf');
  const seen: number[] = [];
  const stop = new AbortController();
  const onProgress = ({ done, total }: { done: number; total: number }) => {
    seen.push(total);
    if (done === 2) stop.abort();
  };
  await t.throwsAsync(saveGguf(model, file, { onProgress, signal: stop.signal }), { instanceOf: CancelledError });
  t.is(seen.length, 3);
  t.false(existsSync(file));
  model.dispose();
});

test('splitting rules are found by their patterns', (t) => {
  for (const name of ['gpt-2', 'smollm', 'qwen2', 'llama-bpe', 'tekken']) t.is(preTokenizerNameOf(preTokenizerOf(name, 'f')), name);
  t.is(preTokenizerNameOf({ patterns: ['x'], ignoreMerges: false, nfc: false }), undefined);
});

test('Q8_0 blocks: the largest value becomes 127 steps; scales are rounded to half precision', (t) => {
  const values = Float32Array.from({ length: 64 }, (_, i) => (i < 32 ? i - 16 : 0));
  const bytes = Buffer.from(quantizeQ8(values));
  t.is(bytes.length, 68);
  t.is(bytes.readInt8(2), -127);
  t.is(bytes.readInt8(2 + 16), 0);
  t.is(bytes.readUInt16LE(34), 0);
  for (const exact of [0, 1, 2 ** -14, 2 ** -24, 0.333251953125, 65504]) t.is(halfRoundTrip(exact), exact);
  t.is(halfRoundTrip(1 + 2 ** -11), 1, 'half way: to even');
  t.is(halfRoundTrip(1 + 3 * 2 ** -11), 1 + 2 ** -9);
  t.is(halfRoundTrip(2047.75 / 2048), 1, 'a carry into the exponent');
});

test('wrong sizes leave the file from before', async (t) => {
  const file = join(folder, 'kept.gguf');
  writeFileSync(file, 'before');
  const tensors = new Map([['a', { type: 'F32' as const, shape: [2], data: () => new Uint8Array(4) }]]);
  await t.throwsAsync(writeGguf(file, new Map(), tensors), {
    instanceOf: InvalidArgumentError,
    message: /tensor "a" has the wrong size; got 4 bytes, expected 8/,
  });
  await t.throwsAsync(writeGguf(file, new Map([['k', { type: 'u32', value: -1 }]]), new Map()), {
    instanceOf: InvalidArgumentError,
    message: /"k" does not fit/,
  });
  const blocks = new Map([['a', { type: 'Q8_0' as const, shape: [2, 33], data: () => new Uint8Array(4) }]]);
  await t.throwsAsync(writeGguf(file, new Map(), blocks), { instanceOf: InvalidArgumentError, message: /no whole number of Q8_0 blocks/ });
  t.throws(() => readGguf(file));
});
