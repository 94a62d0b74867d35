import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { FormatError, InvalidArgumentError } from 'lorikeet';
import { identifyModel, isAdapterFolder, resolveModel, writeSafetensors } from 'lorikeet/io';
import { dataFolder, goldenFolder } from '../helpers/folders.js';

const root = mkdtempSync(join(tmpdir(), 'lorikeet-files-'));
test.after.always(() => rmSync(root, { recursive: true }));

const one = { w: { dtype: 'F32', shape: [1], data: new Uint8Array(4) } } as const;
async function folderWith(name: string, files: Readonly<Record<string, string | 'tensors'>>): Promise<string> {
  const folder = join(root, name);
  mkdirSync(folder);
  for (const [file, content] of Object.entries(files)) {
    if (content === 'tensors') await writeSafetensors(join(folder, file), one);
    else writeFileSync(join(folder, file), content);
  }
  return folder;
}

test('a model folder, whole, sharded, or with weights of another name', async (t) => {
  const whole = await identifyModel(
    await folderWith('whole', {
      'config.json': '{"model_type":"llama"}',
      'generation_config.json': '{"eos_token_id":2}',
      'model.safetensors': 'tensors',
      'tokenizer.json': '{}',
    }),
  );
  t.like(whole, { kind: 'huggingface', config: { model_type: 'llama' }, generationConfig: { eos_token_id: 2 }, hasTokenizer: true });
  const index = JSON.stringify({ weight_map: { w: 'model-00001-of-00001.safetensors' } });
  const sharded = await identifyModel(
    await folderWith('sharded', {
      'config.json': '{}',
      'model.safetensors.index.json': index,
      'model-00001-of-00001.safetensors': 'tensors',
    }),
  );
  t.is(sharded.kind === 'huggingface' ? sharded.weights.tensors.size : -1, 1);
  const other = await identifyModel(await folderWith('other', { 'config.json': '{}', 'weights.safetensors': 'tensors' }));
  t.like(other, { kind: 'huggingface', generationConfig: undefined, hasTokenizer: false });
});

test('GGUF files, adapters, plain safetensors and hub ids', async (t) => {
  const folder = await folderWith('gguf', {});
  copyFileSync(join(goldenFolder, 'gguf', 'tiny-llama.gguf'), join(folder, 'a.gguf'));
  t.like(await identifyModel(folder), { kind: 'gguf', file: join(folder, 'a.gguf'), config: { model_type: 'llama' } });
  t.is((await identifyModel(join(folder, 'a.gguf'))).kind, 'gguf');
  copyFileSync(join(folder, 'a.gguf'), join(folder, 'b.gguf'));
  await t.throwsAsync(identifyModel(folder), {
    instanceOf: FormatError,
    message: /has 2 GGUF files; pass the path of one: a\.gguf, b\.gguf/,
  });

  const adapter = await folderWith('adapter', { 'adapter_config.json': '{"peft_type":"LORA"}', 'adapter_model.safetensors': 'tensors' });
  t.like(await identifyModel(adapter), { kind: 'adapter', config: { peft_type: 'LORA' } });
  t.true(await isAdapterFolder(adapter));
  t.false(await isAdapterFolder(folder));
  t.like(await identifyModel(join(adapter, 'adapter_model.safetensors')), { kind: 'safetensors' });
  t.deepEqual(await identifyModel('org/name'), { kind: 'hub', id: 'org/name' });
  t.is((await resolveModel(adapter)).kind, 'adapter');
});

test('recorded adapters are found', async (t) => {
  const adapters = join(goldenFolder, 'adapters');
  const folders = readdirSync(adapters, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  for (const { name } of folders.slice(0, 3)) t.is((await identifyModel(join(adapters, name))).kind, 'adapter');
});

test('everything else is an error that says what was expected', async (t) => {
  await t.throwsAsync(identifyModel('./nowhere'), {
    instanceOf: InvalidArgumentError,
    message: /no such file or folder; got "\.\/nowhere", expected a folder with config\.json/,
  });
  await t.throwsAsync(identifyModel('models/x.gguf'), { instanceOf: InvalidArgumentError, message: /no such file or folder/ });
  await t.throwsAsync(identifyModel(''), { instanceOf: InvalidArgumentError, message: /must be a path or hub id/ });
  await t.throwsAsync(identifyModel('a\0b'), { instanceOf: InvalidArgumentError });
  for (const [name, files, message] of [
    ['empty', {}, /has no config\.json, no adapter_config\.json and no \.gguf file/],
    [
      'pickle',
      { 'config.json': '{}', 'pytorch_model.bin': '' },
      /no model\.safetensors; pytorch_model\.bin is not read, since it may run code/,
    ],
    ['adapter-pickle', { 'adapter_config.json': '{}', 'adapter_model.bin': '' }, /adapter_model\.bin: is no file of torch\.save/],
    [
      'two',
      { 'config.json': '{}', 'a.safetensors': 'tensors', 'b.safetensors': 'tensors' },
      /has 2 safetensors files and no model\.safetensors\.index\.json/,
    ],
    ['json', { 'config.json': '{', 'model.safetensors': 'tensors' }, /config\.json: is not valid JSON/],
    ['run', { 'recipe.yaml': '', adapter: '' }, /did you mean .*adapter\?/],
  ] as const) {
    const folder = await folderWith(`wrong-${name}`, files);
    await t.throwsAsync(identifyModel(folder), { instanceOf: FormatError, message });
  }
  const text = join(root, 'notes.txt');
  writeFileSync(text, 'hello');
  await t.throwsAsync(identifyModel(text), { instanceOf: FormatError, message: /notes\.txt: is no model/ });
  writeFileSync(join(root, 'model.bin'), '');
  await t.throwsAsync(identifyModel(join(root, 'model.bin')), {
    instanceOf: FormatError,
    message: /may run code; convert it to safetensors/,
  });
});

test('published folders are what they are', async (t) => {
  const stories = dataFolder(t, 'llama-stories260k');
  if (stories === undefined) return;
  const found = await identifyModel(stories);
  t.like(found, { kind: 'huggingface', hasTokenizer: true, config: { model_type: 'llama', hidden_size: 64 } });
});
