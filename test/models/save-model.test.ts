import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { attach, loadModel, saveModel } from 'lorikeet';
import { loadSafetensors, saveGguf } from 'lorikeet/io';
import { abs, add, cast, matmul, max, mul, normal, sub, transpose } from 'lorikeet/ops';
import type { LoraLinear } from '#dist/adapters/lora-linear.js';
import { noGrad, scope } from '#dist/scope.js';
import { golden, loadTiny, logitsOf, sameBits } from '../helpers/adapters.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { readJson } from '../helpers/folders.js';
import { shippedModel } from '../helpers/shipped.js';

const folder = temporaryFolder();
const ids = [5, 17, 60, 3, 88, 41, 9];

for (const name of ['llama-biases-untied', 'llama-rope-yarn', 'llama-sharded', 'mistral-sliding', 'qwen2-tied', 'qwen3-head-dim']) {
  test.serial(`${name} keeps its bits from folder to GGUF to folder`, async (t) => {
    const model = await loadTiny(`models/${name}`);
    const expected = await logitsOf(model, ids);
    await saveGguf(model, join(folder, `${name}.gguf`));
    const middle = await loadModel(join(folder, `${name}.gguf`));
    await saveModel(middle, join(folder, name));
    const again = await loadModel(join(folder, name));
    t.true(sameBits(await logitsOf(again, ids), expected));
    t.false(existsSync(join(folder, name, 'tokenizer.json')), 'there was none');
    for (const each of [model, middle, again]) each.dispose();
  });
}

test.serial('the files beside the weights are copied as they are', async (t) => {
  const model = await loadModel(shippedModel);
  await saveModel(model, join(folder, 'companions'), { dtype: 'bf16' });
  for (const name of ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json', 'special_tokens_map.json'])
    t.deepEqual(readFileSync(join(folder, 'companions', name)), readFileSync(join(shippedModel, name)), name);
  t.is(readJson<Record<string, unknown>>(folder, 'companions', 'config.json').torch_dtype, 'bfloat16');
  model.dispose();
});

test.serial('a model is saved into the folder that it was loaded from', async (t) => {
  const own = join(folder, 'own');
  const source = await loadModel(shippedModel);
  await saveModel(source, own);
  source.dispose();
  const model = await loadModel(own);
  const expected = await logitsOf(model, ids);
  await saveModel(model, own);
  const again = await loadModel(own);
  t.true(sameBits(await logitsOf(again, ids), expected));
  t.true(existsSync(join(own, 'tokenizer.json')));
  for (const each of [model, again]) each.dispose();
});

test.serial('maxError is what another measurement of the stored weights finds', async (t) => {
  const source = join(golden, 'models/llama-bf16');
  const model = await loadModel(source);
  const tuned = await attach(model, { type: 'lora', rank: 4, alpha: 8, init: false, targets: ['gate_proj'] }, { seed: 2 });
  const layers = tuned.adapters.get(tuned.names[0] ?? '').placements;
  const factors = await Promise.all(
    layers.map(async ({ path, module }) => {
      const { lora_A, lora_B, scale } = module as LoraLinear;
      return { path, a: cast(lora_A.weight, 'f32'), b: cast(lora_B.weight, 'f32'), scale };
    }),
  );
  const { maxError } = await tuned.merge();
  await saveModel(model, join(folder, 'measured'));
  const [before, after] = await Promise.all([
    loadSafetensors(join(source, 'model.safetensors')),
    loadSafetensors(join(folder, 'measured/model.safetensors')),
  ]);
  let worst = 0;
  for (const { path, a, b, scale } of factors)
    await scope(async () => {
      const [error, size] = noGrad(() => {
        const weight = (from: typeof before) => transpose(cast(from.get(`${path}.weight`) as typeof a, 'f32'));
        const x = normal([64, a.shape[1] ?? 0], { seed: 9 });
        const expected = add(matmul(x, weight(before)), mul(matmul(matmul(x, transpose(a)), transpose(b)), scale));
        return [max(abs(sub(matmul(x, weight(after)), expected))), max(abs(expected))];
      });
      worst = Math.max(worst, (await (error?.item() ?? 1)) / (await (size?.item() ?? 1)));
    });
  // Ours also rounds both outputs to bf16, by up to 2^-8 of their size together.
  t.true(worst > 0 && maxError >= worst / 3 && maxError <= worst + 2 ** -7, `${maxError} and ${worst}`);
  model.dispose();
});
