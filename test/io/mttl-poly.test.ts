import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { attach, loadAdapter, scope } from 'lorikeet';
import { clone } from 'lorikeet/ops';
import { convertMttl, writeMttl } from '#dist/io/mttl-poly.js';
import { loadSafetensors, saveSafetensors } from '#dist/io/safetensors.js';
import type { Tensor } from '#dist/tensor.js';
import { loadTiny, relativeError, sameBits, temporaryFolder, valuesOf } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';
import { noise } from '../helpers/tiny-network.js';

const ids = [3, 17, 42, 5, 8, 80];

test.serial('a checkpoint of mttl loads, and goes both ways with the same bytes', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'poly', tasks: 3, skills: 2, splits: 2, targets: ['q_proj', 'v_proj'] });
  perturb(tuned, 0.5);
  const expected = await valuesOf(tuned.logits([ids], { tasks: [2] }));
  const folder = temporaryFolder();
  await tuned.save(join(folder, 'ours'));
  tuned.dispose();
  await writeMttl(join(folder, 'ours'), join(folder, 'mttl.safetensors'));
  const names = [...(await loadSafetensors(join(folder, 'mttl.safetensors'))).keys()];
  t.is(names.length, 12);
  const layer = 'model.model.layers.0.self_attn.q_proj';
  for (const end of ['lora_a', 'lora_b', 'selector.module_logits']) t.true(names.includes(`${layer}.${end}`), end);

  const found = await convertMttl(join(folder, 'mttl.safetensors'), join(folder, 'again'));
  t.deepEqual(found, { rank: 8, tasks: 3, skills: 2, splits: 2, left: [] });
  const [one, two] = await Promise.all(['ours', 'again'].map((name) => loadSafetensors(join(folder, name, 'adapter_model.safetensors'))));
  t.deepEqual([...(two as Map<string, Tensor>).keys()].sort(), [...(one as Map<string, Tensor>).keys()].sort());
  for (const [name, value] of one as Map<string, Tensor>)
    t.true(sameBits(value.dataSync() as Float32Array, two?.get(name)?.dataSync() as Float32Array), name);
  const loaded = await loadAdapter(model, join(folder, 'again'));
  t.true(sameBits(await valuesOf(loaded.logits([ids], { tasks: [2] })), expected));
  model.dispose();
});

test.serial('alpha goes into B, where nothing says what it is', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'poly', tasks: 2, alpha: 3, targets: ['q_proj'] });
  perturb(tuned, 0.5);
  const expected = await valuesOf(tuned.logits([ids], { tasks: [1] }));
  const folder = temporaryFolder();
  await tuned.save(join(folder, 'native'), { form: 'native' });
  tuned.dispose();
  await writeMttl(join(folder, 'native'), join(folder, 'mttl.safetensors'));
  await convertMttl(join(folder, 'mttl.safetensors'), join(folder, 'again'));
  const loaded = await loadAdapter(model, join(folder, 'again'));
  t.true(relativeError(await valuesOf(loaded.logits([ids], { tasks: [1] })), expected) < 1e-6);
  model.dispose();
});

test.serial('alpha and gates come from the hyper-parameters; other tensors are left out', async (t) => {
  const folder = temporaryFolder();
  const tensors: Record<string, Tensor> = {
    'model.layer.lora_a': noise([1, 2, 12, 3], 1),
    'model.layer.lora_b': noise([1, 2, 3, 8], 2),
    'model.layer.selector.module_logits': noise([4, 2], 3),
    'model.layer.weight': noise([8, 12], 4),
  };
  const source = join(folder, 'checkpoint.safetensors');
  await saveSafetensors(source, tensors);
  const found = await convertMttl(source, join(folder, 'out'), { alpha: 3, gates: 'sigmoid' });
  t.deepEqual(found, { rank: 3, tasks: 4, skills: 2, splits: 1, left: ['model.layer.weight'] });
  const config = JSON.parse(readFileSync(join(folder, 'out', 'adapter_config.json'), 'utf8')) as object;
  t.like(config, { module_logits: 'sigmoid' });
  t.false('lora_alpha' in config);
  const written = await loadSafetensors(join(folder, 'out', 'adapter_model.safetensors'));
  const [b, given] = [written.get('base_model.model.layer.poly_lora_B'), tensors['model.layer.lora_b']].map(
    (value) => value?.dataSync() as Float32Array,
  ) as [Float32Array, Float32Array];
  t.true(
    relativeError(
      b,
      given.map((value) => 3 * value),
    ) < 1e-6,
  );

  const broken = async (changes: Record<string, Tensor | undefined>): Promise<unknown> => {
    const entries = Object.entries({ ...tensors, ...changes }).filter((entry): entry is [string, Tensor] => entry[1] !== undefined);
    await saveSafetensors(
      source,
      scope(() => new Map(entries.map(([name, value]) => [name, clone(value)]))),
    );
    return convertMttl(source, join(folder, 'broken'));
  };
  await t.throwsAsync(broken({ 'model.layer.lora_a': undefined }), {
    code: 'format',
    message: /no tensor is called as in checkpoints of mttl/,
  });
  await t.throwsAsync(broken({ 'model.layer.selector.module_logits': undefined }), { code: 'format', message: /has no router/ });
  await t.throwsAsync(broken({ 'model.other.lora_a': noise([1, 3, 12, 3], 5), 'model.other.selector.module_logits': noise([4, 3], 6) }), {
    code: 'format',
    message: /layers of different sizes/,
  });
  t.true(relativeError([1, 2], [1, 2]) === 0);
});
