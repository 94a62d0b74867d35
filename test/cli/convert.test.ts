import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { loadAdapter, loadModel } from 'lorikeet';
import { golden, loadTiny, logitsOf, readReference, referenceError, relativeError } from '../helpers/adapters.js';
import { lastJson, lorikeet, temporaryFolder } from '../helpers/command-line.js';
import { shippedModel } from '../helpers/shipped.js';

const folder = temporaryFolder();
const plain = join(golden, 'adapters/plain');
const base = join(golden, 'models/llama-gqa-tied');
const convert = (from: string, to: string, out: string, ...more: string[]) =>
  lorikeet(['convert', '--from', from, '--to', to, '--out', join(folder, out), '--json', ...more]);

test('an adapter goes round through every format, and the fields say how', async (t) => {
  let from = plain;
  for (const [to, out] of [
    ['kohya', 'a.safetensors'],
    ['mlx', 'b'],
    ['gguf', 'c.gguf'],
    ['safetensors', 'd.safetensors'],
    ['peft', 'e'],
  ] as const) {
    const result = await convert(from, to, out, '--model', base);
    t.is(result.code, 0, result.stderr);
    t.deepEqual(lastJson(result), {
      out: join(folder, out),
      tensors: to === 'kohya' ? 12 : 8,
      from: { a: 'peft', b: 'kohya', c: 'mlx', d: 'gguf', e: 'diffusers' }[out[0] as 'a'],
      to,
    });
    from = join(folder, out);
  }
  const model = await loadTiny();
  const tuned = await loadAdapter(model, from);
  t.true((await referenceError(tuned, readReference(join(plain, 'reference.json')))) < 1e-5);
  model.dispose();
});

test('a model becomes a GGUF file, and a GGUF file a folder', async (t) => {
  const result = await convert(shippedModel, 'gguf', 'model.gguf', '--dtype', 'f32');
  t.is(result.code, 0, result.stderr);
  t.is((await convert(join(folder, 'model.gguf'), 'safetensors', 'model')).code, 0);
  const [one, two] = await Promise.all([loadModel(shippedModel), loadModel(join(folder, 'model'))]);
  const ids = one.tokenizer.encode('Once upon a time');
  t.deepEqual(two.tokenizer.encode('Once upon a time'), ids);
  t.true(relativeError(await logitsOf(two, ids), await logitsOf(one, ids)) < 1e-6);
  one.dispose();
  two.dispose();
});

test('a sliding window that llama.cpp does not know is told', async (t) => {
  const result = await convert(join(golden, 'models/mistral-sliding'), 'gguf', 'window.gguf');
  t.is(result.code, 0, result.stderr);
  t.regex(result.stderr, /no sliding window for this architecture: it computes the same for up to 4 tokens only/);
});

test('wrong use is exit 2 and writes nothing', async (t) => {
  for (const [from, to, message, ...more] of [
    [plain, 'ggml', /Allowed choices/],
    [join(folder, 'nothing'), 'peft', /there is nothing at/],
    [base, 'kohya', /format of adapters; got a model/],
    [plain, 'kohya', /written as it is/, '--dtype', 'f16'],
    [base, 'safetensors', /q8_0 is a type of gguf files/, '--dtype', 'q8_0'],
  ] as const) {
    const result = await convert(from, to, 'wrong', ...more);
    t.is(result.code, 2, result.stderr);
    t.regex(result.stderr, message);
  }
  const taken = await lorikeet(['convert', '--from', plain, '--to', 'kohya', '--out', plain]);
  t.is(taken.code, 2);
  t.regex(taken.stderr, /exists; choose another/);
  const dora = await convert(join(golden, 'adapters/dora'), 'gguf', 'wrong', '--model', base);
  t.is(dora.code, 1);
  t.regex(dora.stderr, /more than plain LoRA/);
  t.false(existsSync(join(folder, 'wrong')));
});
