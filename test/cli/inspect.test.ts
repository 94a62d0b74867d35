import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { lastJson, lorikeet, temporaryFolder } from '../helpers/command-line.js';
import { dataFolder } from '../helpers/folders.js';
import { shippedModel } from '../helpers/shipped.js';

test('a model folder and a safetensors file', async (t) => {
  const folder = lastJson(await lorikeet(['inspect', shippedModel, '--json']));
  t.like(folder, { kind: 'model folder', parameters: 260032, dtypes: { F32: 260032 }, problems: [] });
  t.is((folder.names as string[]).length, 47);
  const file = lastJson(await lorikeet(['inspect', join(shippedModel, 'model.safetensors'), '--json']));
  t.like(file, { kind: 'safetensors file', parameters: 260032 });
  const text = await lorikeet(['inspect', shippedModel]);
  t.regex(text.stdout, /parameters 260 k \(260032\) in 47 tensors/);
});

test('a GGUF file', async (t) => {
  const folder = dataFolder(t, 'smollm2-135m-instruct');
  if (folder === undefined) return;
  const path = join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf');
  const found = lastJson(await lorikeet(['inspect', path, '--json']));
  t.like(found, { kind: 'gguf file', parameters: 134_515_008 });
  t.deepEqual(Object.keys(found.dtypes as object).sort(), ['F32', 'Q4_1', 'Q8_0']);
  t.deepEqual(lastJson(await lorikeet(['inspect', folder, '--json'])), found);
});

test('a broken folder tells its problems; a strange one is wrong use', async (t) => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'config.json'), '{ "model_type": "lama" }');
  const found = lastJson(await lorikeet(['inspect', folder, '--json']));
  t.regex(JSON.stringify(found.problems), /no model\.safetensors.*no tokenizer\.json.*did you mean \\"llama\\"/);
  t.is((await lorikeet(['inspect', temporaryFolder()])).code, 2);
});

test('doctor measures this machine', async (t) => {
  const result = await lorikeet(['doctor', '--json']);
  t.is(result.code, 0, result.stderr);
  const found = lastJson(result) as {
    gflops: Record<string, number>;
    gigabytesPerSecond: number;
    kernels: { level: string };
    devices: { device: string }[];
  };
  t.true((found.gflops.f32 ?? 0) > 0.1 && found.gigabytesPerSecond > 0.1);
  t.deepEqual(
    found.devices.map(({ device }) => device),
    ['cpu', 'cuda'],
  );
});
